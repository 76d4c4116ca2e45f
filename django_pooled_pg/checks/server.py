"""Checks one alias against its server; never through the site's pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Literal, LiteralString

import psycopg
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError
from django.db.backends.postgresql.base import DatabaseWrapper

from ..monitoring.server import CONNECT_SECONDS, ServerSide, one_line, server_side
from ..opening import session_maker
from ..pooling.config import Connection, PoolConfig
from ..pooling.connector import SessionMaker
from ..pooling.registry import snapshot
from ..pooling.untold import untold
from . import serving
from .messages import message
from .pooler import check_pooler, guessed_from

_BACKEND_PID: LiteralString = "SELECT pg_backend_pid()"
_IDLE_LIMIT: LiteralString = (
    "SELECT setting::int FROM pg_settings WHERE name = 'idle_session_timeout'"
)

Between = Literal["nothing", "sessions", "transactions"]


def check_server(connection: DatabaseWrapper, config: PoolConfig) -> list[CheckMessage]:
    """Compare the settings with what the server of `connection` says; opens up to 3 connections.

    A server that doesn't answer within 5 s, each time, results in a warning.
    """
    alias = connection.alias
    make = session_maker(type(connection), alias, snapshot(connection.settings_dict), config)
    try:
        with closing(_open(make)) as session:
            between = _between(session, make)
            idle_limit = _number(session, _IDLE_LIMIT) / 1000
    except NotSupportedError as ex:
        return [message("E003", str(ex), "Upgrade the server, or use an older Django.", alias)]
    except (psycopg.Error, ImproperlyConfigured) as ex:
        return [_not_asked(alias, one_line(ex))]
    except Exception as ex:  # from the site's engine
        return [_not_asked(alias, str(untold("its engine", ex)))]
    settings = connection.settings_dict
    if between == "nothing":
        return [*_direct(alias, config), *_idle(alias, config, idle_limit)]
    if between == "transactions" and not guessed_from(settings, config):
        because = "a pooler in front of the server lends a session per transaction"
        return [*check_pooler(alias, settings, config, because)]
    return []


def _open(make: SessionMaker) -> Connection:
    return make.open({"connect_timeout": CONNECT_SECONDS})


def _not_asked(alias: str, reason: str) -> CheckMessage:
    return message(
        "W006",
        f"The server could not be asked: {reason}",
        "Run the check where the site's database can be reached.",
        alias,
    )


def _between(session: Connection, make: SessionMaker) -> Between:
    """Tell what is between us and the server: nothing, or a pooler that lends sessions.

    A pooler reports a backend pid of its own invention. A pooler that lends a session per
    transaction gives us different sessions, or gives ours to somebody else; one that lends it
    until we close does neither.
    """
    pid = _number(session, _BACKEND_PID)
    if pid == session.info.backend_pid:
        return "nothing"
    with closing(_open(make)) as other:
        changes = _number(other, _BACKEND_PID) == pid or _number(session, _BACKEND_PID) != pid
    return "transactions" if changes else "sessions"


def _number(session: Connection, sql: LiteralString) -> int:
    ((number,),) = session.execute(sql).fetchall()
    return int(number)


def _idle(alias: str, config: PoolConfig, limit: float) -> Iterator[CheckMessage]:
    if config.pool_class == "pool" and 0 < limit < config.max_idle:
        yield message(
            "W008",
            f"The server closes connections that are idle for {limit:g} s "
            f"(idle_session_timeout), while the pool keeps them for {config.max_idle:g} s "
            "('max_idle') or, up to 'min_size', indefinitely. Requests find them dead.",
            "Turn that limit off for this user: ALTER ROLE ... SET idle_session_timeout = 0.",
            alias,
        )


def _direct(alias: str, config: PoolConfig) -> Iterator[CheckMessage]:
    if config.pool_class == "null":
        yield message(
            "I006",
            "'class': 'null' keeps no idle connections, and there is no pooler in front of the "
            "server: each borrow opens a new connection.",
            f"Remove DATABASES[{alias!r}]['OPTIONS']['pool']['class'].",
            alias,
        )
    server = server_side(alias)
    if server.error is not None:
        yield _not_asked(alias, server.error)
        return
    processes = serving.processes()
    number = processes.number if processes else 1
    if config.budget is not None:
        yield from _budget(alias, config.budget, server)
        return
    if number * config.max_size <= server.allowed:
        return
    if processes:
        who = f"{number} processes ({processes.source}) x 'max_size' {config.max_size}"
    else:
        who = f"One process alone, with 'max_size' {config.max_size},"
    text = f"{who} may open {number * config.max_size} connections"
    text += f", but only {server.allowed} are allowed ({_limit(server)})."
    if number * config.min_size > server.allowed:
        text += f" Even the {number * config.min_size} of 'min_size' don't fit."
    if fits := server.allowed // number:
        hint = f"Set 'max_size' to at most {fits}, or raise that limit."
    else:
        hint = "Use fewer processes, or raise that limit."
    yield message("W007", text, hint, alias)


def _budget(alias: str, budget: int, server: ServerSide) -> Iterator[CheckMessage]:
    if budget > server.allowed:
        yield message(
            "W007",
            f"The processes of one host may open {budget} connections together ('budget'), but "
            f"only {server.allowed} are allowed ({_limit(server)}).",
            f"Set 'budget' to at most {server.allowed} divided by the number of hosts, or raise "
            "that limit.",
            alias,
        )


def _limit(server: ServerSide) -> str:
    if server.allowed == server.role_limit:
        return "the user's CONNECTION LIMIT"
    if server.allowed == server.database_limit:
        return "the database's CONNECTION LIMIT"
    return f"max_connections {server.max_connections} less {server.reserved} reserved"
