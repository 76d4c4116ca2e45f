"""Gives connections back earlier than Django would, where code knows that it may."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

P = ParamSpec("P")
R = TypeVar("R")


class _AroundWork:
    """A context manager, for `with` and `async with`."""

    def _before(self) -> None:
        pass

    def _after(self) -> None:
        pass

    def __enter__(self) -> None:
        self._before()

    def __exit__(self, *exc: object) -> None:
        self._after()

    # In the thread that runs Django's synchronous code, since that one holds the connections.

    async def __aenter__(self) -> None:
        await sync_to_async(self._before, thread_sensitive=True)()

    async def __aexit__(self, *exc: object) -> None:
        await sync_to_async(self._after, thread_sensitive=True)()


class without_connection(_AroundWork):
    """Give back this thread's connections before doing something slow::

        with without_connection():
            answer = ask_the_model(question)

    The next query borrows again. In async code use `async with`: it gives back the connections
    of the thread that runs Django's synchronous code for this request.

    Raises `django.db.transaction.TransactionManagementError` inside an atomic block, where
    giving back would lose the transaction; nothing is given back then.
    """

    def _before(self) -> None:
        held = _held()
        for connection in held:
            if connection.in_atomic_block or not connection.get_autocommit():
                raise TransactionManagementError(
                    f"without_connection() inside a transaction on database "
                    f"{connection.alias!r}: giving its connection back would lose the "
                    "transaction. Do the slow work before or after it."
                )
        for connection in held:
            connection.close()


class returning_connections(_AroundWork):
    """Give back this thread's connections at the end of a piece of work.

    For work outside requests: threads, executors, tasks, schedulers. A context manager,
    also for `async with`, and a decorator of functions and coroutine functions::

        @returning_connections()
        def send_newsletter(): ...

    A connection inside an atomic block that began before the work (as in a `TestCase`) is kept.
    Any other transaction that was left open is rolled back.
    """

    def _after(self) -> None:
        for connection in _held():
            if not connection.in_atomic_block:
                connection.close()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]  # R is a coroutine here

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run


def _held() -> list[BaseDatabaseWrapper]:
    return [c for c in connections.all(initialized_only=True) if c.connection is not None]
