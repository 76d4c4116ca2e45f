"""Where Django's DatabaseWrapper and the pool meet: connect borrows, close gives back.

- `pool.py`: which pool an alias has;
- `early.py`: giving back before the request ends;
- `borrowing.py`: connect and close;
- `cursors.py`: making cursors, where nearly each use begins.

Each mixin builds on the one before.
"""

from __future__ import annotations

from django.db.backends.postgresql.base import DatabaseWrapper

from .. import request_scope
from ..client import PooledDatabaseClient
from ..monitoring import endpoint
from ..pooling import registry
from ..validation import PoolValidation
from .cursors import CursorsMixin

request_scope.listen()
registry.on_open(endpoint.ensure_running)


class PooledDatabaseMixin(CursorsMixin):
    """Put before a PostgreSQL engine's DatabaseWrapper to make it borrow from a pool."""

    validation_class = PoolValidation
    client_class = PooledDatabaseClient

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = {*PooledDatabaseMixin.__mro__, *DatabaseWrapper.__mro__}
        engines = [vars(each) for each in cls.__mro__ if each not in known]
        cls._makes_cursors = any(
            name in engine for engine in engines for name in ("create_cursor", "make_cursor")
        )
        cls._engine_closes = any("close" in engine for engine in engines)
