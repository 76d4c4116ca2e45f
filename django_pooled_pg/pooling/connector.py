"""Opens server sessions and configures them, tracks those alive and what failed.

Runs in psycopg_pool's worker threads; must not know who waits for the connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.pq import TransactionStatus

from .backing.versions import check_connection
from .config import Connection, ConnectionCallback
from .counters import Durations
from .process.fork import detach_from_server
from .process.locks import Lock, RLock
from .session.handles import remember_with_handles, with_handle
from .session.liveness import exchange, seems_connected
from .session.session import renew
from .session.use import use_of
from .untold import Untold, untold
from .work.stops import Stops

if TYPE_CHECKING:
    from .budget.place import Place


class SessionMaker(NamedTuple):
    """How the server sessions of one pool are opened."""

    # Takes psycopg_pool's keywords (`connect_timeout`).
    open: Callable[[dict[str, Any]], Connection]
    # Restores on a session after a reset what `open` had configured.
    configure: Callable[[Connection], None]
    # The budget that its sessions count for, if there is one.
    budget: Place | None = None


# Seconds between attempts to connect while a session that has lost its slot may still exist.
_PAUSES = (0.01, 0.02, 0.04, 0.08, 0.1)


class Connector:
    """Takes the place of the connection class that psycopg_pool expects; it calls `connect`.

    `on_failure` gets the error of each attempt that fails while no other connection is alive.
    """

    def __init__(
        self,
        pool_name: str,
        make: SessionMaker,
        configure: ConnectionCallback | None,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._pool_name = pool_name
        self.stops = Stops(pool_name)
        self._make = make
        self._user_configure = configure
        self._on_failure = on_failure
        # Guards what follows.
        self._lock = RLock()
        # Every connection that is alive, wherever it is: a fork, and the search for lost ones, must
        # find them all. Strong: otherwise a lost one would vanish, and stay counted forever.
        self._alive: set[Connection] = set()
        # Attempts under way.
        self.making = 0
        self.attempts = 0
        self.failures = 0
        self.durations = Durations()
        self.last_error: Exception | None = None
        self._failed_at = 0.0

    def connect(self, conninfo: str = "", **kwargs: Any) -> Connection:
        """Open a connection; `kwargs` are psycopg_pool's (`connect_timeout`)."""
        started = monotonic()
        with self._lock:
            self.attempts += 1
            self.making += 1
        try:
            connection = self._made(kwargs)
        except (psycopg.Error, ImproperlyConfigured) as ex:
            self.failed(ex)
            raise
        except Exception as ex:  # from `configure`; users catch OperationalError
            error = psycopg.OperationalError(
                f"Pool {self._pool_name!r} can't connect: {type(ex).__name__}: {ex}"
            )
            error.__cause__ = ex
            self.failed(error)
            raise error from ex
        finally:
            with self._lock:
                self.making -= 1
        with self._lock:
            self._alive.add(connection)
            self.durations.add(monotonic() - started)
            self.last_error = None
        return connection

    def _made(self, kwargs: dict[str, Any]) -> Connection:
        try:
            return self._opened(kwargs)
        except Exception:
            raise
        except BaseException as ex:
            # psycopg_pool sets a time limit only when it connects in a borrower's thread, where
            # this is an interrupt. In a worker, the site's code raises it, as asyncio's and
            # gevent's do; it would kill the worker, and nobody would connect any more.
            if "connect_timeout" in kwargs:
                raise
            error = untold("the code that opens its connections", ex)
        # Raised here for the same reason as below.
        raise psycopg.OperationalError(
            f"Pool {self._pool_name!r} can't connect: {error}"
        ) from error.__cause__

    def _opened(self, kwargs: dict[str, Any]) -> Connection:
        connection = self._open(kwargs)
        connection.lock = Lock()  # in place of psycopg's: an interrupt must not leave it locked
        try:
            check_connection(connection)
            remember_with_handles(connection, self.stops)
            self._call_configure(connection)
            renew(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, kwargs: dict[str, Any]) -> Connection:
        try:
            return self._opened_in_time(kwargs)
        except Untold as ex:
            error = ex
        except (psycopg.Error, ImproperlyConfigured):
            raise
        except Exception as ex:  # from the site's engine or connection class
            error = untold("its engine", ex)
        # Raised here, so that it has no __context__, which would tell more.
        raise psycopg.OperationalError(
            f"Pool {self._pool_name!r} can't connect: {error}"
        ) from error.__cause__

    def _opened_in_time(self, kwargs: dict[str, Any]) -> Connection:
        for pause in _PAUSES if self._make.budget is not None else ():
            try:
                return self._make.open(kwargs)
            except psycopg.OperationalError as ex:
                if not self._may_wait_for_room(ex):
                    raise
            sleep(pause)
        return self._make.open(kwargs)

    def _may_wait_for_room(self, error: Exception) -> bool:
        """Tell whether the server is full, but other processes of the budget should make room."""
        if self._make.budget is None:
            return False
        from .budget.fullness import says_full

        return says_full(error)

    def configure_again(self, connection: Connection) -> None:
        """Restore on a session after a reset what it was given when it was new."""
        self._make.configure(connection)
        self._call_configure(connection)

    def _call_configure(self, connection: Connection) -> None:
        # We don't pass it to psycopg_pool, which would forget, but not close, a connection whose
        # `configure` fails; its borrowers would wait until their timeout.
        if self._user_configure is None:
            return
        with_handle(connection, self._user_configure)
        status = TransactionStatus(connection.pgconn.transaction_status)
        if status != TransactionStatus.IDLE:
            raise psycopg.ProgrammingError(
                f"Pool {self._pool_name!r}: 'configure' left the connection in status "
                f"{status.name}; it must end its transaction."
            )

    @property
    def budget(self) -> Place | None:
        """The budget that its connections count for, if there is one."""
        return self._make.budget

    def failed(self, error: Exception) -> None:
        """Note that no connection could be opened."""
        with self._lock:
            self.failures += 1
            self.last_error, self._failed_at = error, monotonic()
        if self._may_wait_for_room(error):
            return
        # Other connections at work are worth waiting for. Without any, waiting until the timeout
        # would only hide the server's answer.
        if not self._has_others():
            self._on_failure(error)

    def _has_others(self) -> bool:
        return any(seems_connected(connection) for connection in self.alive())

    def cut_off_by(self) -> tuple[Exception, float] | None:
        """Return the last attempt's error and time, if it failed and no connection is alive.

        `None` otherwise. The time is a `time.monotonic()` reading.
        """
        with self._lock:
            error, at = self.last_error, self._failed_at
        return None if error is None or self._has_others() else (error, at)

    def ask_server(self, within: float) -> None:
        """Ask the server over a connection outside the pool, which is closed at once.

        Takes up to `within` seconds for each host to connect to, and for the answer. Raises
        whatever the server, the engine or the network does.
        """
        milliseconds = math.ceil(within * 1000)
        limits = {"connect_timeout": math.ceil(within), "tcp_user_timeout": milliseconds}
        connection = self._open(limits)
        try:
            exchange(connection, b"SELECT 1", within)
        finally:
            connection.close()

    def alive(self) -> set[Connection]:
        """Return every connection that isn't closed, wherever it is."""
        with self._lock:
            self._alive = _open(self._alive)
            return self._alive.copy()

    def detach_all(self) -> None:
        """In a forked child: let go of every connection that the parent had opened."""
        # No lock: this is the child's only thread, and a thread that doesn't exist here may have
        # held it at the fork.
        for connection in list(self._alive):
            detach_from_server(connection)
            # Cursors that are garbage-collected here later must not try to close themselves.
            use_of(connection).end_server_cursors()


def _open(connections: set[Connection]) -> set[Connection]:
    return {connection for connection in connections if not connection.closed}
