"""psycopg_pool's usual pool as we use it: it connects when somebody asks for a connection.

`base.py` says which of psycopg_pool's private names it uses, and why.
"""

from __future__ import annotations

from psycopg_pool.base import AttemptWithBackoff
from psycopg_pool.pool import Schedule, ShrinkPool

from ..config import Connection
from .sharing import SharingBacking


class ShortBackoff(AttemptWithBackoff):
    """Wait 0.1 s after the first failure, then longer, but never over a second.

    psycopg_pool doubles its delay without a limit: after an outage of five minutes it would
    sleep for minutes although the server is back.
    """

    INITIAL_DELAY = 0.1
    LONGEST_DELAY = 1.0

    def update_delay(self, now: float) -> None:
        super().update_delay(now)
        self.delay = min(self.delay, self.LONGEST_DELAY)


class Backing(SharingBacking):
    """A `ConnectionPool` that connects when somebody asks for a connection."""

    def take_idle(self) -> Connection | None:
        """Return the idle connection that was used last, if there is one; nobody waits then.

        Called with the lock held.
        """
        idle = self._pool
        if not idle:
            return None
        # Its session is the warmest; the others get old enough to be closed.
        connection = idle.pop()
        if len(idle) < self._nconns_min:
            self._nconns_min = len(idle)
        connection._pool = self
        return connection

    def put_clean(self, connection: Connection, now: float) -> bool:
        """Put a clean, open connection back; `now` is `time.monotonic()`.

        Called with the lock held. Returns `False`, and does nothing, if it has to be closed.
        """
        if (
            self._closed
            or self._pool_full_event
            or self._nconns > self._max_size
            or connection._expire_at <= now
            or connection._created_at <= self._drained_at
        ):
            return False
        connection._pool = None
        waiting = self._waiting
        while waiting:
            if waiting.popleft().set(connection):
                return True
        self._pool.append(connection)
        return True

    def _start_initial_tasks(self) -> None:
        # Nothing is connected yet: the first borrower (or `fill`) starts the growth, which then
        # continues up to min_size by itself.
        self._nconns = self._nconns_min = 0
        self.run_task(Schedule(self, ShrinkPool(self), self.max_idle))

    def _add_connection(self, attempt: AttemptWithBackoff | None, growing: bool = False) -> None:
        super()._add_connection(attempt or ShortBackoff(timeout=self.reconnect_timeout), growing)

    def fill(self) -> None:
        """Start to open connections, in the background, until there are `min_size`."""
        with self._lock:
            if self._nconns < self._min_size:
                self._maybe_grow_pool()
