"""Has done for a task what would block the event loop, or must not be left half done."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from ..process.locks import Lock

R = TypeVar("R")

_ATTEMPTS = 3


async def in_thread(
    function: Callable[[], R],
    undo: Callable[[R], object] | None = None,
    *,
    keeps: object = None,
) -> R:
    """Return what `function` returns, called in a thread of its own, in this task's context.

    If the task is canceled meanwhile, the thread goes on, and calls `undo` with the result. Until
    then it `keeps` that alive, whose garbage collection undoes the same.
    """
    errand = _Errand(function, undo, keeps)
    try:
        errand.start()
        return await errand.came
    except BaseException:
        errand.abandon()
        raise


async def to_its_end(function: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Await what `function` returns, to its end.

    Raises `CancelledError` afterwards if this task is canceled meanwhile.
    """
    is_canceled = False
    for _ in range(_ATTEMPTS):
        task = asyncio.create_task(function())
        # Else asyncio.run() would cancel it, too, when it cancels all tasks at its end.
        # https://docs.python.org/3/library/asyncio-extending.html#task-lifetime-support
        asyncio.tasks._unregister_task(task)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                is_canceled = True
        # On Python 3.11, psycopg 3.2 waits in tasks of its own, which are canceled then.
        if not task.cancelled():
            task.result()
            break
    if is_canceled:
        raise asyncio.CancelledError


def in_loop(loop: asyncio.AbstractEventLoop | None = None) -> bool:
    """Tell whether that event loop runs here, or any; not where a task is collected later on."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return loop is None or running is loop


class _Errand(Generic[R]):
    def __init__(
        self, function: Callable[[], R], undo: Callable[[R], object] | None, keeps: object
    ) -> None:
        self._function = function
        self._undo = undo
        self._keeps = keeps
        self._process_id = os.getpid()
        self._loop = asyncio.get_running_loop()
        self.came: asyncio.Future[R] = self._loop.create_future()
        # Guards `_results`, so that a result is undone only once.
        self._lock = Lock()
        self._results: list[R] = []

    def start(self) -> None:
        # Not the loop's executor: the application may keep all of its threads busy.
        run, name = contextvars.copy_context().run, "django_pooled_pg-errand"
        threading.Thread(target=run, args=(self._run,), name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._function()
        except BaseException as ex:
            self._tell(self._fail, ex)
            return
        self._results.append(result)
        if not self._tell(self._deliver, result):
            self._take_back()

    def _tell(self, how: Callable[..., None], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(how, *args)
        except RuntimeError:  # the loop was closed, so the task is gone
            return False
        return True

    def _fail(self, error: BaseException) -> None:
        if not self.came.done():
            self.came.set_exception(error)

    def _deliver(self, result: R) -> None:
        if not self.came.done():
            self.came.set_result(result)
        else:
            self._take_back()

    def abandon(self) -> None:
        """Note that nobody waits for the result, whether it is here already or still to come."""
        if os.getpid() != self._process_id:
            return  # the parent's task is collected in a forked child
        if self._keeps is not None and not in_loop(self._loop):
            return  # it is collected with its task, and whoever learns of that undoes it
        if not self._loop.is_closed():
            self.came.cancel()
        self._take_back()

    def _take_back(self) -> None:
        with self._lock:
            results, self._results = self._results, []
        if self._undo is not None:
            for result in results:
                self._undo(result)
