"""Runs a task's statement for a piece of work, which may stop being wanted meanwhile.

Relies on private names of psycopg's cursors: those in `_CONTINUE` and `_CLEAN_UP`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import psycopg.generators

from ..session.handles import HARMLESS, OF_PIPELINES, OF_TWO_PHASES
from ..session.running import Queued, Sent, Statement, cleans_up, is_in_pipeline, running
from ..session.use import Use
from ..work import work
from ..work.work import Work
from .claim import NO_THREAD
from .errand import in_loop, in_thread, to_its_end

if TYPE_CHECKING:
    from .use import TaskUse

R = TypeVar("R")


def _codes(owner: object, *names: str) -> set[CodeType]:
    found = (getattr(getattr(owner, name, None), "__code__", None) for name in names)
    return {code for code in found if code is not None}


# What passes on a part of a statement's data.
_PARTS = (
    _codes(psycopg.AsyncCursor, "_stream_fetchone_gen")
    | _codes(psycopg.AsyncCopy, "_read_gen", "_read_row_gen")
    | _codes(psycopg.generators, "copy_to")
)
# What continues a statement that has begun.
_CONTINUE = (
    _PARTS
    | OF_PIPELINES
    | _codes(psycopg.AsyncCopy, "_end_copy_out_gen")
    | _codes(psycopg.generators, "copy_end")
)
# What has to be done in any case.
_CLEAN_UP = HARMLESS | OF_TWO_PHASES | _codes(psycopg.AsyncServerCursor, "_close_gen")


def marked(gen: Generator[Any, Any, R], query: object) -> Generator[Any, Any, R]:
    """Mark a statement that cleans up a transaction, so that `run` can tell it from others."""
    return _cleaning_up(gen) if work.in_use and cleans_up(query) else gen


def _cleaning_up(gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
    return (yield from gen)


class _InTask:
    """For no thread: its task waits for cancel requests itself, without blocking the event loop."""

    __slots__ = ()
    thread_id: int
    begin: Callable[[], None]

    def _end_cancel(self) -> None:
        pass


class TaskStatement(_InTask, Statement):
    """A statement of a task."""

    __slots__ = ()


class TaskSent(_InTask, Sent):
    """A statement that a task's pipeline sends."""

    __slots__ = ()


class TaskQueued(_InTask, Queued):
    """What continues a task's statement that has begun."""

    __slots__ = ()


async def run(use: TaskUse, code: CodeType | None, wait: Callable[[], Awaitable[R]]) -> R:
    """Return what `wait` returns; it runs a generator with that code.

    Raises `RequestAbandoned` or `DeadlineExceeded` if the task's work isn't wanted any more.
    """
    is_clean_up = (code in _CLEAN_UP and code not in _CONTINUE) or code is _CLEANING_UP
    try:
        await _end_cancel(use)
    except asyncio.CancelledError:
        if is_clean_up:
            await wait()
        raise
    mine = work.current() if work.in_use else None
    if mine is None or is_clean_up:
        return await wait()
    if code in _PARTS and use.parts_canceled_for is not mine and not mine.is_wanted():
        # Whoever watches the work cancels only what it sees running, and a part is soon over.
        use.parts_canceled_for = mine
        await use.quick_in_task._try_cancel()
    statement = _statement(mine, use, code)
    statement.thread_id = NO_THREAD
    try:
        with running(statement):
            return await wait()
    finally:
        await _end_cancel(use)


_CLEANING_UP = _cleaning_up.__code__


def _statement(mine: Work, use: Use, code: CodeType | None) -> Statement:
    if code in _CONTINUE:
        return TaskQueued(mine, use)
    return (TaskSent if is_in_pipeline(use) else TaskStatement)(mine, use)


async def _end_cancel(use: Use) -> None:
    if use.cancel is not None and in_loop():
        await to_its_end(partial(in_thread, use.end_cancel))
