"""Asks the server about this project's sessions; judges and prints nothing.

Uses a new connection each time, made by the alias's engine but not by its pool: the question is
most urgent when the pool has no connection left.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.db.backends.postgresql.base import DatabaseWrapper

from ..opening import session_maker
from ..pooling.config import Connection, PoolConfig
from ..pooling.printable import printable
from ..pooling.registry import snapshot
from ..pooling.untold import untold

CONNECT_SECONDS = 5
AT_ONCE = 10
_QUERY_MILLISECONDS = 5000

# Every role may read these. PostgreSQL 16 added `reserved_connections`. Sessions of other roles
# hide their state and backend_type; a session without a role isn't a client's.
# https://www.postgresql.org/docs/current/monitoring-stats.html
_LIMITS = """
SELECT current_setting('server_version'),
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user),
       (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
       count(*),
       count(*) FILTER (WHERE backend_type IS NULL)
  FROM pg_stat_activity
 WHERE pid <> %s AND datid IS NOT NULL AND usesysid IS NOT NULL
   AND coalesce(backend_type, 'client backend') = 'client backend'
"""
_SESSIONS = """
SELECT CASE WHEN backend_type IS NULL THEN '?'
            ELSE coalesce(client_hostname, host(client_addr), 'local') END,
       coalesce(application_name, ''),
       coalesce(state, '?'),
       count(*)::int,
       extract(epoch FROM max(clock_timestamp() - state_change))::float,
       extract(epoch FROM max(clock_timestamp() - xact_start))::float
  FROM pg_stat_activity
 WHERE pid <> %s AND datname = current_database() AND usename = session_user
   AND coalesce(backend_type, 'client backend') = 'client backend'
 GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions of this project from one host, with one name, in one state. Times in seconds.

    `host` is `"local"` for Unix sockets. As `host` or `state`, `"?"` means that the server hides
    it. `longest_in_state` and `longest_transaction` are the longest times of any of these sessions;
    `None` if the server doesn't say, or no transaction is open.
    """

    host: str
    application_name: str
    state: str
    count: int
    longest_in_state: float | None
    longest_transaction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """What the server reports about one alias's sessions, or the `error` if it doesn't.

    This project's sessions are those of the alias's database and user. `total` counts those of
    all databases and users; the server doesn't show this user what the `hidden` ones are and do,
    so some may be parallel workers. `CONNECTION LIMIT` sets `role_limit` and `database_limit`.
    The connection that asks isn't counted; but behind a pooler, which owns all these sessions,
    the session that it lends for the question is.
    """

    alias: str
    error: str | None = None
    version: str = ""
    max_connections: int = 0
    reserved: int = 0
    role_limit: int | None = None
    database_limit: int | None = None
    total: int = 0
    hidden: int = 0
    sessions: tuple[Sessions, ...] = ()

    @property
    def allowed(self) -> int:
        """How many connections this project may have at most, with no other client."""
        limits = (self.max_connections - self.reserved, self.role_limit, self.database_limit)
        return min(limit for limit in limits if limit is not None)

    @property
    def ours(self) -> int:
        """How many sessions this project has, over all hosts."""
        return sum(group.count for group in self.sessions)

    @property
    def idle_in_transaction(self) -> int:
        """How many of them are idle inside an open transaction."""
        return sum(group.count for group in self._idling())

    @property
    def longest_idle_in_transaction(self) -> float | None:
        """For how many seconds the longest of these has been idle; `None`: there is none."""
        return max((group.longest_in_state or 0.0 for group in self._idling()), default=None)

    @property
    def longest_transaction(self) -> float | None:
        """For how many seconds the oldest transaction has been open; `None`: there is none."""
        times = (group.longest_transaction for group in self.sessions)
        return max((time for time in times if time is not None), default=None)

    def _idling(self) -> list[Sessions]:
        return [group for group in self.sessions if group.state.startswith("idle in transaction")]

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON, with units in names; if `error` is set, only `alias` and `error`."""
        if self.error is not None:
            return {"alias": self.alias, "error": self.error}
        shown = asdict(self)
        del shown["error"]
        shown["sessions"] = [_with_units(group) for group in shown["sessions"]]
        return shown | {
            "allowed": self.allowed,
            "ours": self.ours,
            "idle_in_transaction": self.idle_in_transaction,
            "longest_idle_in_transaction_seconds": self.longest_idle_in_transaction,
            "longest_transaction_seconds": self.longest_transaction,
        }


def _with_units(group: dict[str, Any]) -> dict[str, Any]:
    return {f"{key}_seconds" if "longest" in key else key: value for key, value in group.items()}


def server_side(alias: str = "default") -> ServerSide:
    """Ask the server of `alias` once; takes up to about 10 s if it doesn't answer.

    If the server can't be asked, `error` says why in one line. Raises
    `django.utils.connection.ConnectionDoesNotExist` for an unknown alias.
    """
    wrapper: Any = connections[alias]
    try:
        with _connect(wrapper) as connection:
            return _ask(alias, connection)
    except (psycopg.Error, Error, ImproperlyConfigured) as ex:
        return ServerSide(alias=alias, error=one_line(ex))
    except Exception as ex:  # from the site's engine
        return ServerSide(alias=alias, error=one_line(untold("its engine", ex)))


def server_sides(aliases: Sequence[str]) -> list[ServerSide]:
    """Ask the servers of several aliases, `AT_ONCE` at a time; see `server_side`."""
    with ThreadPoolExecutor(AT_ONCE, "poolstats-server") as executor:
        return list(executor.map(server_side, aliases))


def _connect(wrapper: DatabaseWrapper) -> Connection:
    settings = snapshot(wrapper.settings_dict)
    config = PoolConfig.from_settings(wrapper.alias, settings) or PoolConfig()
    limits = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": CONNECT_SECONDS * 1000}
    make = session_maker(type(wrapper), wrapper.alias, settings, config)
    return make.open({**limits, "application_name": "poolstats"})


def _ask(alias: str, connection: Connection) -> ServerSide:
    # A pooler invents this pid: the session that answers is the pooler's own, and is counted.
    asking = [connection.info.backend_pid]
    # In one transaction, so that pg_stat_activity stays the same.
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {_QUERY_MILLISECONDS}")
        (limits,) = cursor.execute(_LIMITS, asking).fetchall()
        groups = cursor.execute(_SESSIONS, asking).fetchall()
    version, most, reserved, role, database, total, hidden = limits
    # Convert everything, whatever types the answer claims: the display relies on these.
    return ServerSide(
        alias=alias,
        version=_text(version),
        max_connections=int(most),
        reserved=int(reserved),
        role_limit=None if role is None else int(role),
        database_limit=None if database is None else int(database),
        total=int(total),
        hidden=int(hidden),
        sessions=tuple(
            Sessions(
                host=_text(host),
                application_name=_text(name),
                state=_text(state),
                count=int(count),
                longest_in_state=None if since is None else float(since),
                longest_transaction=None if transaction is None else float(transaction),
            )
            for host, name, state, count, since, transaction in groups
        ),
    )


def _text(said: object) -> str:
    # Sessions choose their names, and servers their messages.
    return printable(str(said), 300)


def one_line(error: BaseException) -> str:
    """Return a server's or libpq's error message on one line, safe for a terminal."""
    return _text(" ".join(str(error).split()) or type(error).__name__)
