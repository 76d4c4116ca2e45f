"""`deadline()` limits the time that a block of code may spend with the database."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction

from .pooling.work import watcher
from .pooling.work.work import Work, context
from .seconds import checked_seconds

P = ParamSpec("P")
R = TypeVar("R")


class deadline:
    """Give a block of code `seconds` for its work with the database::

        with deadline(2.5):
            report = build_report()

    Also works with `async with`, and as a decorator of functions and coroutine functions. In nested
    blocks, the nearest deadline counts.

    At the deadline, a running statement is canceled in the server, and a wait for a connection
    ends: both raise `DeadlineExceeded`. So does each later statement in the block, at once. Code
    that doesn't use the database goes on: the end of the block raises nothing either. Statements
    that end a transaction (`COMMIT`, `ROLLBACK`, savepoints) are never canceled or refused. While a
    generator is suspended inside the block, the deadline also applies to its caller.

    Raises `TypeError` or `ValueError` for anything that isn't a possible number of seconds.
    """

    def __init__(self, seconds: float) -> None:
        if callable(seconds):
            raise TypeError("deadline needs a number of seconds: write @deadline(2.5)")
        self._seconds = checked_seconds(seconds, "deadline()")
        # Blocks that are still running: several, if one object is used repeatedly.
        self._works: list[Work] = []

    def __enter__(self) -> None:
        work = Work(self._seconds)
        # Comes first: an interrupt may come before the block begins; __del__ ends what is listed.
        self._works.append(work)
        watcher.enter(work)

    def __exit__(self, *error: object) -> None:
        work = self._work_here()
        watcher.leave(work)
        self._works.remove(work)

    def __del__(self) -> None:
        for work in getattr(self, "_works", ()):
            work.has_ended = True

    def _work_here(self) -> Work:
        work = context.get()
        # Blocks need not end in the order in which they began: generators suspend inside them.
        while work is not None and (work.has_ended or work not in self._works):
            work = work.outer
        # The block of another context, where such a generator is garbage-collected.
        return work or self._works[-1]

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("deadline() can't limit a generator: use it inside, around its work")
        if inspect.isclass(function) or not callable(function):
            raise TypeError("deadline() decorates functions and coroutine functions")
        if iscoroutinefunction(function):

            @wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with deadline(self._seconds):
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]  # a coroutine function, as it was

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            # A new one for each call: see __del__.
            with deadline(self._seconds):
                return function(*args, **kwargs)

        return run
