"""Identifies a borrower that is a task, and says where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import FrameType
from typing import Any
from weakref import ref

from ..process.borrowers import Borrower, borrower

# The attributes of coroutines and generators that say what they wait for.
_WAITS_FOR = ("cr_await", "ag_await", "gi_yieldfrom")
_FRAMES = ("cr_frame", "ag_frame", "gi_frame")


class TaskBorrower(Borrower):
    """A task that has borrowed. Not the task itself, which would live as long as the lease."""

    __slots__ = ("_loop_thread", "_task")
    advice = "Borrow by async with, and end event loops as asyncio.run() does."

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._loop_thread = borrower()
        super().__init__(self._loop_thread.thread_id, f"task {task.get_name()!r}")
        self._task = ref(task)

    def frames(self) -> Iterator[FrameType]:
        """Yield the frames where it awaits or, if it runs, its thread's; the innermost first."""
        task = self._task()
        if task is None or task.done():
            return
        frames = list(_frames_of(task.get_coro()))
        # A running frame has a caller, and a suspended one has none.
        if frames and frames[-1].f_back is not None:
            yield from super().frames()
        else:
            yield from reversed(frames)


def _frames_of(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of what a task awaits, the outermost first."""
    while awaited is not None:
        frame = next((x for name in _FRAMES if (x := getattr(awaited, name, None))), None)
        if frame is not None:
            yield frame
        awaited = next((x for name in _WAITS_FOR if (x := getattr(awaited, name, None))), None)
