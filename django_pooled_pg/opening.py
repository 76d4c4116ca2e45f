"""Opens and configures a pool's server sessions the way their engine does.

Relies on the methods of Django's DatabaseWrapper that engines override;
`tests/test_django_contract.py` fails if one of them moves.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, cast

import psycopg
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.errors import ConnectionTimeout

from .pooling.config import PoolConfig, with_fresh_password
from .pooling.connector import SessionMaker
from .pooling.registry import Settings, snapshot

# psycopg's own default: https://www.psycopg.org/psycopg3/docs/api/connections.html
_LONGEST_CONNECT = 130

# Notice within a minute that a peer has vanished, not after the two hours that systems wait, unless
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
    """Return what opens sessions the way `engine`, or its subclass, does without a pool."""

    def wrapper(settings: Settings) -> DatabaseWrapper:
        # A new one for each session, used once.
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
        params = _with_defaults(params, config.timeout)
        try:
            connection: psycopg.Connection[Any] = opener.get_new_connection(params)
        except ConnectionTimeout as ex:
            raise _no_answer(params, ex) from ex
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


def _with_defaults(params: dict[str, Any], timeout: float) -> dict[str, Any]:
    if "connect_timeout" not in params and "PGCONNECT_TIMEOUT" not in os.environ:
        # Those who wait should hear of a host that doesn't answer, not of their time-out; and each
        # of several hosts gets its turn before that. Two seconds are psycopg's minimum, too.
        hosts = len(_said(params, "host").split(","))
        limit = min(max(2, (int(timeout) - 1) // hosts), _LONGEST_CONNECT)
        # Even with a service: psycopg doesn't look for a connect_timeout in its file.
        params = {**params, "connect_timeout": limit}
    if "service" not in params:  # a service's file may set these
        params = {**_KEEPALIVES, **params}
    return params


def _no_answer(params: dict[str, Any], error: ConnectionTimeout) -> ConnectionTimeout:
    """Return an error that adds what psycopg's lacks: who didn't answer, and for how long."""
    if service := params.get("service"):
        who = f"service {service}"
    else:
        who = (
            f"{_said(params, 'host') or 'the local server'}, port {_said(params, 'port') or 5432},"
        )
    # Read as psycopg does, which has refused anything that isn't a number.
    given = int(float(_said(params, "connect_timeout")))
    limit = max(2, given) if given > 0 else _LONGEST_CONNECT
    each = " each" if "," in _said(params, "host") else ""
    # Add what happened with each host if there are several.
    attempts = str(error).splitlines()[1:]
    text = f"no answer from {who} within {limit} s{each} (connect_timeout)"
    return ConnectionTimeout("\n".join([text, *attempts]))


def _said(params: dict[str, Any], name: str) -> str:
    """Return a connection parameter, which may come from the environment."""
    return str(params.get(name) or os.environ.get(f"PG{name.upper()}") or "")


def _configure(opener: DatabaseWrapper, connection: psycopg.Connection[Any]) -> None:
    opener.connection = connection
    opener.autocommit = True
    opener.init_connection_state()


class _ConnectsWith:
    """The psycopg module, except that `connect` opens connections of the given class."""

    def __init__(self, connection_class: type[psycopg.Connection[Any]]) -> None:
        self.connect = connection_class.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)
