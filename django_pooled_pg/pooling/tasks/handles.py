"""The handles of tasks: what a task has in place of a connection; see `use.py`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any, cast

import psycopg
from psycopg.errors import CancellationTimeout
from psycopg.pq import TransactionStatus
from psycopg.waiting import wait_async

from ..session.cancel import hang_up
from ..session.handles import FACTORIES, NotingHandle, current_use
from ..session.liveness import ANSWER_LIMIT
from ..session.use import Use, use_of
from .cursors import noting
from .errand import in_thread, to_its_end
from .running import run

logger = logging.getLogger(__name__)

ACTIVE = TransactionStatus.ACTIVE
# Seconds between two checks for interrupts, psycopg's default.
_INTERVAL = 0.1
_UNANSWERED = "the server hasn't ended a statement that was to be canceled"


class QuickTaskHandle(psycopg.AsyncConnection[Any]):
    """The connection as our cursors have it."""

    def __del__(self, *args: Any) -> None:
        """Don't warn of an open connection: it is the pool's."""

    def __getattr__(self, name: str) -> Any:
        current_use(self)  # raises if the attribute is missing because the handle was taken away
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def cancel(self) -> None:
        with use_of(cast(Any, self)).asking():
            super().cancel()

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        with use_of(cast(Any, self)).asking():
            if psycopg.capabilities.has_cancel_safe():
                await super().cancel_safe(timeout=timeout)
                return
            # psycopg would let a thread of the loop wait without a limit, and the loop for its end.
            try:
                async with asyncio.timeout(timeout):
                    await in_thread(super().cancel)
            except TimeoutError as ex:
                raise CancellationTimeout("the server doesn't answer") from ex

    async def wait(
        self, gen: Any, interval: float = _INTERVAL, timeout: float | None = None
    ) -> Any:
        use: Any = current_use(self)
        # psycopg before 3.3 knows no timeout.
        limits = {"interval": interval}
        if timeout is not None:
            limits["timeout"] = timeout
        wait = partial(self._wait, use, gen, limits)
        return await run(use, getattr(gen, "gi_code", None), wait)

    async def _wait(self, use: Any, gen: Any, limits: dict[str, float]) -> Any:
        # First said, then looked; who ends the borrow does it the other way round.
        use.waits += 1
        try:
            current_use(self)
            pgconn = vars(self)["pgconn"]
            try:
                return await wait_async(gen, pgconn.socket, **limits)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                # Where the borrow has ended meanwhile, whoever ended it sees to the statement.
                if use_of(cast(Any, self)) is use and pgconn.transaction_status == ACTIVE:
                    end_statement = partial(self._end_statement, use, gen, pgconn.socket)
                    with suppress(asyncio.CancelledError):
                        await to_its_end(end_statement)
                raise
        finally:
            use.waits -= 1

    async def _end_statement(self, use: Use, gen: Any, socket: int) -> None:
        """Have the server cancel what a task that was canceled runs, and hear of its end.

        A session whose statement still runs is closed when its borrow ends.
        """
        await self._try_cancel()
        if use.doubt is _UNANSWERED:
            return
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                await wait_async(gen, socket, interval=_INTERVAL)
        except psycopg.errors.QueryCanceled:
            pass
        except (psycopg.Error, TimeoutError) as ex:
            _give_up(use, ex)

    async def _try_cancel(self, *, timeout: float = ANSWER_LIMIT) -> None:
        # psycopg calls it as a stream or a COPY is left, too, and waits for their end then.
        use = use_of(cast(Any, self))
        try:
            if use.doubt is not _UNANSWERED:
                await self.cancel_safe(timeout=min(timeout, ANSWER_LIMIT))
        except psycopg.Error as ex:
            _give_up(use, ex)


def _give_up(use: Use, error: Exception) -> None:
    """Let whoever waits for a server that doesn't answer wait no more."""
    name = use.session.stops.pool_name
    logger.warning("Pool %r: a statement can't be canceled: %s", name, error)
    use.doubt = _UNANSWERED
    hang_up(use.quick)


class RawTaskHandle(NotingHandle, QuickTaskHandle):
    """The connection as the task that has borrowed it sees it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FACTORIES:
            value = noting(value, server=name != "cursor_factory")
        super().__setattr__(name, value)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        use: Any = current_use(self)
        return use.quick_in_task.cursor(*args, **kwargs)

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        code = getattr(gen, "gi_code", None)
        if self.ends_unheard(code):
            return None
        use = self.note_wait(code)
        result = await super().wait(gen, *args, **kwargs)
        self.note_waited(use, code)
        return result


for _class in (QuickTaskHandle, RawTaskHandle):
    # To those who inspect one, it is what it stands for.
    _class.__name__ = _class.__qualname__ = psycopg.AsyncConnection.__name__
    _class.__module__ = psycopg.AsyncConnection.__module__
