"""A task's place in the queue for a connection, among those of threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from weakref import ref

from psycopg_pool import PoolTimeout

from ..backing.claim import Claim
from ..config import Connection
from ..work import work

# No thread's id: an interrupted thread forgets what it was doing, but tasks share their thread.
NO_THREAD = 0


class TaskClaim(Claim):
    """A place in the queue, where a task waits without blocking its event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.thread_id = NO_THREAD
        self._process_id = os.getpid()
        self._loop = asyncio.get_running_loop()
        # The loop keeps it, and with it the task. Not the queue: tasks of a loop that was closed are
        # collected, and leave it.
        self._came: Callable[[], asyncio.Future[None] | None] = _nothing

    async def arrive(self, timeout: float) -> Connection:
        """Return the connection that the claim is handed; raises what `Claim.wait` raises."""
        mine = work.current()
        if mine is not None:
            mine.running.add(self)
        too_late = PoolTimeout(f"couldn't get a connection after {timeout:.2f} sec")
        came: asyncio.Future[None] = self._loop.create_future()
        self._came = ref(came)
        timer = self._loop.call_later(max(0.0, timeout), self._fail, too_late, came)
        try:
            await came
        finally:
            timer.cancel()
            if mine is not None:
                mine.running.discard(self)
        return self.handed()

    def is_inherited(self) -> bool:
        """Tell whether this is a forked child, in which the parent's task is collected."""
        return os.getpid() != self._process_id

    def _wake_up(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._come)
        except RuntimeError:  # the loop was closed, so the task is gone: it is another's turn
            return False
        return True

    def _come(self) -> None:
        came = self._came()
        if came is not None and not came.done():
            came.set_result(None)

    def _fail(self, error: Exception, came: asyncio.Future[None]) -> None:
        self.fail(error)


def _nothing() -> None:
    return None
