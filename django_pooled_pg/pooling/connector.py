"""Owns making server sessions: opens and configures them, knows those alive and what failed.

Runs in the worker threads of a psycopg_pool; must not know who waits for the connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.pq import TransactionStatus

from . import session
from .backing import Connection
from .config import ConnectionCallback
from .fork import detach_from_server

SessionOpener = Callable[[dict[str, Any]], Connection]


class Connector:
    """Stands where psycopg_pool expects a connection class, of which it calls `connect`.

    `on_failure` gets the error of each attempt that fails while no other connection lives.
    """

    def __init__(
        self,
        pool_name: str,
        open_session: SessionOpener,
        configure: ConnectionCallback | None,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._pool_name = pool_name
        self._open_session = open_session
        self._user_configure = configure
        self._on_failure = on_failure
        # Guards what follows.
        self._lock = threading.RLock()
        # Every connection that is alive, wherever it is: a fork must find them all.
        self._alive: WeakSet[Connection] = WeakSet()
        self.attempts = 0
        self.failures = 0
        self.last_error: Exception | None = None

    def connect(self, conninfo: str = "", **kwargs: Any) -> Connection:
        """Make a connection; `kwargs` are psycopg_pool's (`connect_timeout`)."""
        with self._lock:
            self.attempts += 1
        try:
            connection = self._open_session(kwargs)
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
        except Exception as ex:
            self._failed(ex)
            raise
        session.remember(connection)
        with self._lock:
            self._alive.add(connection)
            self.last_error = None
        return connection

    def _configure(self, connection: Connection) -> None:
        # Not left to psycopg_pool: it would forget, but not close, a connection whose
        # `configure` fails, and its borrowers would wait for their timeout.
        if self._user_configure is None:
            return
        self._user_configure(connection)
        status = TransactionStatus(connection.pgconn.transaction_status)
        if status != TransactionStatus.IDLE:
            raise psycopg.ProgrammingError(
                f"Pool {self._pool_name!r}: 'configure' left the connection in status "
                f"{status.name}; let it end its transaction."
            )

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self.failures += 1
            self.last_error = error
            others = any(not connection.closed for connection in self._alive)
        # With other connections at work there is something to wait for; without, waiting
        # until the timeout would only hide the server's answer.
        if not others:
            self._on_failure(error)

    def detach_all(self) -> None:
        """In a forked child: let go of every connection the parent had made."""
        # No lock: this is the child's only thread, and a thread that isn't here may have
        # held it at the fork.
        for connection in list(self._alive):
            detach_from_server(connection)
