"""A borrower's place in the queue for a connection.

Like `base.py` and `null.py`, relies on psycopg_pool's private names: here on its
`WaitingClient`, of which `conn`, `error`, `set` and `fail` are used.
"""

from __future__ import annotations

import threading

from psycopg_pool import PoolTimeout
from psycopg_pool.pool import WaitingClient

from ..config import Connection
from ..process.locks import RLock
from ..work import work


class Claim(WaitingClient[Connection]):
    """A borrower's place in the queue, which no interrupt can break.

    psycopg_pool's own waits on a `threading.Condition`. An interrupt (Ctrl-C, a task's time
    limit) may leave that locked, and the pool with it. A borrower that timed out or was
    interrupted must also leave the queue: it would count for `max_waiting`, or be handed a
    connection.
    """

    def __init__(self) -> None:
        # Without super().__init__(), which makes that condition.
        self.conn = self.error = None
        self.thread_id = threading.get_ident()
        # Guards the choice between `conn` and `error`, of which only one is ever set. Reentrant: a
        # task that waits may be garbage-collected in the thread that hands it a connection.
        self._choice = RLock()
        self._settled = threading.Lock()
        self._settled.acquire()

    def wait(self, timeout: float) -> Connection:
        mine = work.current()
        if mine is not None:
            mine.running.add(self)
        try:
            came = self._settled.acquire(timeout=max(0.0, timeout))
        finally:
            if mine is not None:
                mine.running.discard(self)
        if not came:
            self.fail(PoolTimeout(f"couldn't get a connection after {timeout:.2f} sec"))
        return self.handed()

    def handed(self) -> Connection:
        """Return the connection that came, or raise the error that came in its place."""
        if self.error is not None:
            raise self.error
        assert self.conn is not None
        return self.conn

    def set(self, conn: Connection) -> bool:
        return self._settle(conn, None)

    def fail(self, error: Exception) -> bool:
        return self._settle(None, error)

    def _settle(self, conn: Connection | None, error: Exception | None) -> bool:
        with self._choice:
            if self.conn is not None or self.error is not None:
                return False
            self.conn, self.error = conn, error
            if self._wake_up():
                return True
            kept, self.conn = self.conn, None
            self.error = PoolTimeout("the borrower has gone")
            # If it was collected during the call above, the connection was put back then.
            return conn is not None and kept is None

    def _wake_up(self) -> bool:
        """Let the borrower go on; tell whether it still exists."""
        self._settled.release()
        return True

    def stop(self) -> None:
        """End the borrower's wait. Called by the thread that watches its work."""
        self.fail(NotWanted())

    def is_running(self) -> bool:
        """Tell whether its borrower waits."""
        return self.conn is None and self.error is None

    def abandon(self) -> Connection | None:
        """Make sure that nothing is handed over any more; return what was."""
        with self._choice:
            if self.error is None:
                self.error = PoolTimeout("the borrower has gone")
            conn, self.conn = self.conn, None
            return conn


class NotWanted(PoolTimeout):
    """Tells a waiting borrower that its work isn't wanted any more; never leaves the pool."""


class ConnectFailed(Exception):
    """Carries the error of a failed connect to a waiting borrower; never leaves the pool."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
