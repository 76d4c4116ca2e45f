"""Owns how a server session of a pool is opened and configured: as its engine does it.

Relies on the methods of Django's DatabaseWrapper that engines override;
`tests/test_django_contract.py` fails when one of them moves.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

import psycopg
from django.db.backends.postgresql.base import DatabaseWrapper

from .pooling.config import PoolConfig, with_fresh_password
from .pooling.connector import SessionMaker
from .pooling.registry import Settings, snapshot

# psycopg's own default: https://www.psycopg.org/psycopg3/docs/api/connections.html
_LONGEST_CONNECT = 130

# Find a peer that vanished within a minute, not within the two hours that systems wait; unless
# OPTIONS says otherwise. Ignored on Unix sockets.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
_KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}


def session_maker(
    engine: type[DatabaseWrapper], alias: str, settings: Settings, config: PoolConfig
) -> SessionMaker:
    """Return what opens sessions as `engine`, or a subclass of it, does without a pool."""
    # Those who wait should be told of a host that doesn't answer, not of their time-out.
    connect_timeout = min(max(2, int(config.timeout) - 1), _LONGEST_CONNECT)
    defaults = {**_KEEPALIVES, "connect_timeout": connect_timeout}

    def wrapper(settings: Settings) -> DatabaseWrapper:
        # One of its own for each session, used once.
        fresh = snapshot(settings)
        fresh["OPTIONS"]["pool"] = False
        made = engine(fresh, alias)
        made.Database = cast(ModuleType, _ConnectsWith(config.connection_class))
        return made

    def open_session(kwargs: dict[str, Any]) -> psycopg.Connection[Any]:
        opener = wrapper(with_fresh_password(settings))
        opener.check_settings()
        params = {**opener.get_connection_params(), "autocommit": True, **kwargs}
        if config.credentials is not None:
            params.update(config.credentials())
        if "service" not in params:  # whose file may say something about the defaults
            params = {**defaults, **params}
        connection: psycopg.Connection[Any] = opener.get_new_connection(params)
        try:
            _configure(opener, connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def configure(connection: psycopg.Connection[Any]) -> None:
        _configure(wrapper(settings), connection)

    budget = None
    if config.budget is not None:
        from .pooling.budget.place import place_of
        from .runtime_dir import shared_dir

        budget = place_of(settings, config.budget_name, shared_dir)
    return SessionMaker(open=open_session, configure=configure, budget=budget)


def _configure(opener: DatabaseWrapper, connection: psycopg.Connection[Any]) -> None:
    opener.connection = connection
    opener.autocommit = True
    opener.init_connection_state()


class _ConnectsWith:
    """The psycopg module, but for `connect`, which makes connections of the class given."""

    def __init__(self, connection_class: type[psycopg.Connection[Any]]) -> None:
        self.connect = connection_class.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)
