"""Owns the meeting of Django's DatabaseWrapper and the pool: connect borrows, close returns.

With `opening.py` the only module that relies on names of Django's that aren't documented;
`tests/test_django_contract.py` fails when one of them moves.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created
from django.utils.asyncio import async_unsafe

from .client import PooledDatabaseClient
from .monitoring import endpoint
from .opening import session_maker
from .pooling import reclaim, registry
from .pooling.config import PoolConfig
from .pooling.cursors import note_server_cursor
from .pooling.errors import ForkedInTransaction
from .pooling.lease import Lease
from .pooling.pool import Pool
from .pooling.session import renew, session_of
from .validation import PoolValidation

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as _Base
else:
    _Base = object

registry.on_open(endpoint.ensure_running)


class PooledDatabaseMixin(_Base):
    """Put in front of a PostgreSQL engine's DatabaseWrapper to let it borrow from a pool."""

    validation_class = PoolValidation
    client_class = PooledDatabaseClient

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pool: Pool | None = None
        # What _pool was looked up for; None: not looked up yet.
        self._pool_settings: registry.Settings | None = None
        self._lease: Lease | None = None
        self._announced_to: list[Any] | None = None
        self._forked_in_atomic = False
        self._self_ref = ref(self, reclaim.gone)

    # Pool

    @property
    def pool(self) -> Pool | None:
        """The pool of this alias in this process, or `None` where there is none.

        Raises `ImproperlyConfigured` for bad settings.
        """
        if self._pool_settings != self.settings_dict:
            if self._pool_settings is None:
                # Once for each wrapper, whether the pool is there already or not.
                PoolConfig.from_settings(self.alias, self.settings_dict)
            if self.alias == NO_DB_ALIAS:
                self._pool = None
            else:
                make = partial(session_maker, type(self), self.alias)
                self._pool = registry.pool_for(self.alias, self.settings_dict, make)
            self._pool_settings = registry.snapshot(self.settings_dict)
        return self._pool

    def close_pool(self) -> None:
        """Close the idle connections of this alias now, and lent ones when they return.

        Safe from any thread at any time; the next query opens the pool again.
        """
        registry.close(self.alias)

    # Connect and close

    @async_unsafe
    def ensure_connection(self) -> None:
        if self._forked_in_atomic and self.connection is None and self.in_atomic_block:
            raise ForkedInTransaction(
                f"Database {self.alias!r}: this process was forked inside an atomic block. The "
                "transaction belongs to the parent process; leave the block before you use the "
                "database here, or fork outside of it."
            )
        super().ensure_connection()

    @async_unsafe
    def connect(self) -> None:
        """Borrow a connection. In place of Django's, which prepares one for each request."""
        pool = self.pool
        if pool is None:
            super().connect()
            return
        self.check_settings()
        # As Django's own: the previous connection may have been closed in an atomic block.
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        self.health_check_enabled = self.settings_dict["CONN_HEALTH_CHECKS"]
        self.health_check_done = True
        # 0 unless it was changed after the start, as some tests do: return it with the request.
        max_age = self.settings_dict["CONN_MAX_AGE"]
        self.close_at = None if max_age is None else time.monotonic() + max_age
        self.closed_in_transaction = False
        self.errors_occurred = False
        self._forked_in_atomic = False

        self._lease = lease = pool.borrow(self._self_ref)
        self.connection = connection = lease.connection
        try:
            self.isolation_level = connection.isolation_level or IsolationLevel.READ_COMMITTED
            self.autocommit = True
            if not self.settings_dict["AUTOCOMMIT"]:
                self.set_autocommit(False)
            self._announce(lease)
        except BaseException:
            self.close()
            raise
        self.run_on_commit = []

    def _announce(self, lease: Lease) -> None:
        # For a session that is new, since receivers configure sessions; for a wrapper that is
        # new, since receivers also install execute wrappers on it; and for a receiver that is.
        receivers = [key for key, *_ in connection_created.receivers]
        session = session_of(lease.connection)
        if not session.announced_to == self._announced_to == receivers:
            connection_created.send(sender=self.__class__, connection=self)
            session.announced_to = self._announced_to = receivers
            # What receivers set, they set on each session: it isn't to be reset.
            renew(lease.connection)

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = super().create_cursor(name)
        if name is not None and self._lease is not None:
            note_server_cursor(cursor)
        return cursor

    def _close(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self.connection = None
            with self.wrap_database_errors:
                lease.pool.give_back(lease)
        elif self.connection is not None:
            # Not borrowed: no pool, or put here by someone who knows why.
            with self.wrap_database_errors:
                self.connection.close()

    def close_if_health_check_failed(self) -> None:
        # A connection that Django finds unusable mustn't come back with the next borrow.
        lease = self._lease
        if lease is None:
            super().close_if_health_check_failed()
        elif self.health_check_enabled and not self.health_check_done:
            if not self.is_usable():
                lease.connection.close()
                self.close()
            self.health_check_done = True

    def holds(self, lease: Lease) -> bool:
        return self._lease is lease

    def lease_lost(self) -> None:
        """Forget the connection: it is the parent's (in a forked child), or was reclaimed."""
        self._lease = self.connection = None
        self.run_on_commit = []
        if self.in_atomic_block:
            self.closed_in_transaction = self.needs_rollback = True
            self._forked_in_atomic = True
