"""Owns `deadline()`: a block of code whose work with the database ends in time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .pooling.work import watcher
from .pooling.work.work import Work, context
from .seconds import checked_seconds

P = ParamSpec("P")
R = TypeVar("R")


class deadline:
    """Give a block of code `seconds` for what it does with the database::

        with deadline(2.5):
            report = build_report()

    Also for `async with`, and as a decorator of functions and coroutine functions. Inside another
    one the nearer deadline counts.

    A statement that runs at the deadline is canceled in the server, and a wait for a connection
    ends: both raise `DeadlineExceeded`, and so does each further statement in the block, at once.
    Code that doesn't use the database goes on: nothing is raised at the end of the block either.
    What ends a transaction (`COMMIT`, `ROLLBACK`, savepoints) is neither canceled nor refused.

    Raises `TypeError` or `ValueError` for anything that isn't a possible number of seconds.
    """

    def __init__(self, seconds: float) -> None:
        if callable(seconds):
            raise TypeError("deadline needs a number of seconds: write @deadline(2.5)")
        self._seconds = checked_seconds(seconds, "deadline()")

    def __enter__(self) -> None:
        watcher.enter(Work(self._seconds))

    def __exit__(self, *error: object) -> None:
        work = context.get()
        if work is not None:
            watcher.leave(work)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("deadline() can't limit a generator: use it inside, around its work")
        if inspect.isclass(function):
            raise TypeError("deadline() decorates functions and coroutine functions")
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]  # a coroutine function, as it was

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run
