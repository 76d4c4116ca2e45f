"""What a pool's workers do for us, and how many there are: the busy ones, and one that waits.

psycopg_pool starts `num_workers` with the pool. Most pools never need more than two: one that
connects or resets, and one so that nothing has to wait behind it. Uses the private names that
`base.py` lists.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread, current_thread
from time import monotonic
from typing import Any

from psycopg_pool import ConnectionPool
from psycopg_pool.pool import MaintenanceTask, Schedule, StopWorker

from ..config import Connection


class Call(MaintenanceTask):
    """Any task for a worker thread; it runs even if the pool is being closed."""

    # While false, it is in the queue or a worker has it; or nobody does, and it no longer exists.
    is_done = False
    # When a worker took it from the queue, by `time.monotonic()`.
    since: float | None = None
    # Whether the log has reported it for taking long.
    reported = False

    def __init__(
        self, pool: Any, function: Callable[[], None], connection: Connection | None = None
    ) -> None:
        super().__init__(pool)
        self._function = function
        self.connection = connection
        self.is_quick = connection is None  # it waits for nobody

    def run(self) -> None:
        self.since = monotonic()
        try:
            self._function()
        finally:
            self.is_done = True

    def _run(self, pool: ConnectionPool[Any]) -> None:
        raise NotImplementedError  # run() does everything


class Tasks(SimpleQueue[MaintenanceTask]):
    """The queue of a pool's workers, which hires another one when the last takes a task.

    An interrupt of a borrower may leave the locks of psycopg_pool's own queue held, which would
    block all workers. Here, what borrowers call is written in C; `get` is for workers, which no
    interrupt reaches.
    """

    def __init__(self) -> None:
        super().__init__()
        # The workers that wait, or are about to. A set's operations are atomic: of two workers that
        # take a task at once, one finds it empty.
        self.waiting: set[Thread] = set()

    def get(self, block: bool = True, timeout: float | None = None) -> MaintenanceTask:
        worker = current_thread()
        self.waiting.add(worker)
        task = super().get(block, timeout)
        self.waiting.discard(worker)
        # Before the task begins.
        if not self.waiting and _takes_time(task) and (pool := task.pool()) is not None:
            hire(pool)
        return task


def _takes_time(task: Any) -> bool:
    return not isinstance(task, (Schedule, StopWorker)) and not (
        isinstance(task, Call) and task.is_quick
    )


def hire(pool: Any) -> None:
    """Start one more worker, unless there are `num_workers` already or the pool is closed."""
    with pool._lock:
        workers = pool._workers
        if pool._closed or len(workers) >= pool.num_workers:
            return
        name = f"{pool.name}-worker-{len(workers)}"
        worker = Thread(target=pool.worker, args=(pool._tasks,), name=name, daemon=True)
        # Added with the lock held, since close() counts whom to stop.
        workers.append(worker)
    waiting = pool._tasks.waiting
    waiting.add(worker)
    try:
        worker.start()
    except RuntimeError:
        # No more threads, because of a limit or because the interpreter exits. The existing ones go
        # on, and the next task tries again.
        waiting.discard(worker)
        with pool._lock:
            workers.remove(worker)
