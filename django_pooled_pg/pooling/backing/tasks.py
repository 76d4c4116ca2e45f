"""Owns the queue of what a psycopg_pool's workers are to do; knows no connection.

With `base.py` all that relies on how psycopg_pool uses its `_tasks`: `put_nowait`, `get` and `qsize`.
"""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue

from psycopg_pool.pool import MaintenanceTask


class Tasks:
    """A queue that an interrupt at any moment can't break, nor a destructor that puts something.

    psycopg_pool's own is a `queue.Queue`: an interrupt (Ctrl-C, a task's time limit) may leave it
    locked, and with it the pool, for ever. Those below are written in C, and have no such moment.
    """

    def __init__(self) -> None:
        self._tasks: deque[MaintenanceTask] = deque()
        # One for each task, or more.
        self._calls: SimpleQueue[None] = SimpleQueue()

    def put_nowait(self, task: MaintenanceTask) -> None:
        self._tasks.append(task)
        # An interrupt here, and the task waits for the next call.
        self._calls.put(None)

    def get(self) -> MaintenanceTask:
        while True:
            self._calls.get()
            try:
                return self._tasks.popleft()
            except IndexError:
                pass  # called once too often

    def call(self) -> None:
        """Call a worker, if there are tasks: to be done from time to time."""
        if self._tasks:
            self._calls.put(None)

    def qsize(self) -> int:
        return len(self._tasks)

    def waiting(self) -> list[MaintenanceTask]:
        """Return the tasks that no worker has taken."""
        return list(self._tasks)
