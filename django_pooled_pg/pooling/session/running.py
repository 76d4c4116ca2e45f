"""Runs a statement for a piece of work, which may stop being wanted meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from math import inf
from threading import get_ident
from time import monotonic, sleep
from typing import Any, TypeVar

import psycopg
from psycopg.errors import QueryCanceled

from ..work.work import Work, current
from .cancel import Cancel, hang_up
from .liveness import ANSWER_LIMIT
from .use import RETURNED_HANDLE, Use

logger = logging.getLogger(__name__)

R = TypeVar("R")

# Statements that end transactions are left alone; so are rollbacks and savepoints, as long as the
# server answers.
_ENDS = ("COMMIT", "END")
_STEERS = ("ROLLBACK", "ABORT", "RELEASE", "SAVEPOINT")
# Seconds between two checks whether another thread still uses the connection.
_TURN = 0.005


class Statement:
    """A statement that runs for a piece of work, for as long as it runs. `run_for` runs it."""

    __slots__ = ("_began", "_is_hung_up", "_stopped_at", "_work", "thread_id", "use")
    # Whether it is refused, and canceled, when its work isn't wanted any more.
    refused = canceled = True

    def __init__(self, work: Work, use: Use) -> None:
        self._work = work
        self.use = use
        self.thread_id = get_ident()
        # By `time.monotonic()`; 0 while it doesn't run, or before it is to be stopped.
        self._began = self._stopped_at = 0.0
        self._is_hung_up = False

    def begin(self) -> None:
        """Begin. Raises `RequestAbandoned` or `DeadlineExceeded` if its work isn't wanted."""
        work, use = self._work, self.use
        if use.cancel is not None:
            self._end_cancel()  # an interrupt kept the previous statement from doing so
        self._began = began = monotonic()
        if self.refused and (work.stopped or work.until <= began or work.outer is not None):
            work.require(use.session.stops)
        use.statement, use.work = self, work
        work.running.add(self)

    def end(self) -> None:
        """End, after its use has forgotten it."""
        # In this order; stop() does it the other way round.
        if not self._began:
            return
        work = self._work
        work.running.discard(self)
        if work.until != inf:
            work.note_worked(monotonic() - self._began)
        self._began = 0.0
        self._end_cancel()

    def _end_cancel(self) -> None:
        if self.use.cancel is not None:
            self.use.end_cancel()

    def end_with(self, error: psycopg.OperationalError) -> None:
        """End; raise what `begin()` raises in place of an error that comes from stopping it."""
        seconds = monotonic() - self._began
        self.end()
        if self._was_stopped(error):
            what = f"a statement was canceled after {seconds:.2f} s"
            raise self._work.error(self.use.session.stops, what) from error

    def _was_stopped(self, error: psycopg.OperationalError) -> bool:
        return bool(self._stopped_at)

    def stop(self) -> None:
        """Have the server cancel it. Only the thread that watches the work calls this.

        If it goes on, whether or not the requests were answered, it loses its connection.
        """
        use, now = self.use, monotonic()
        asked = self._stopped_at or now
        late = now - asked >= ANSWER_LIMIT
        before = use.cancel
        cancels = self.canceled and (before is None or before.is_to_be_repeated())
        if self._is_hung_up or not (late or cancels):
            self._stopped_at = asked
            return
        # Announce first, then look; its borrower does it the other way round. So one of the two
        # sees the other: whoever ends the statement, or the borrow, waits for the answer.
        use.cancel = cancel = Cancel(use.session.stops.pool_name, before)
        if not self.is_running():
            use.cancel = before
            cancel.withdraw()
            return
        self._stopped_at = asked
        if late:
            self._hang_up(now - asked)
            cancel.withdraw()
        else:
            cancel.send(use.quick)

    def _hang_up(self, seconds: float) -> None:
        # The server doesn't answer, or a pooler hasn't passed the statement on yet.
        logger.warning(
            "Pool %r: a statement still runs %.1f s after it should have ended; its connection is closed",
            self.use.session.stops.pool_name,
            seconds,
        )
        self._is_hung_up = True
        hang_up(self.use.quick)

    def is_running(self) -> bool:
        """Tell whether it still runs; an interrupt may have kept it from ending properly."""
        return self.use.statement is self and self.use.quick is not RETURNED_HANDLE


class Steering(Statement):
    """What begins or ends a part of a transaction: cleaning up is neither refused nor canceled."""

    __slots__ = ()
    refused = canceled = False


class Sent(Statement):
    """A statement that a pipeline sends: a cancel request would hit another one."""

    __slots__ = ()
    canceled = False


class Queued(Statement):
    """The wait for statements that a pipeline has sent already."""

    __slots__ = ()
    refused = False

    def _was_stopped(self, error: psycopg.OperationalError) -> bool:
        # The wait for one statement may be stopped, and another one be hit.
        hit = isinstance(error, QueryCanceled) and not self._work.is_wanted()
        return hit or super()._was_stopped(error)


def statement_for(use: Use, query: object = None) -> Statement | None:
    """Return what tracks a statement of the caller's work; `None` if nothing limits it.

    Raises `RequestAbandoned` or `DeadlineExceeded` if its connection isn't free in time.
    """
    if use.is_of_nobody:
        return None
    mine = current()
    if mine is None or _begins(query, _ENDS):
        if use.cancel is not None:
            use.end_cancel()
        return None
    is_taken = use.session.namespace["lock"].locked()
    if _begins(query, _STEERS):
        return None if is_taken else Steering(mine, use)
    if is_taken:
        _await_turn(mine, use)
    return (Sent if is_in_pipeline(use) else Statement)(mine, use)


def cleans_up(query: object) -> bool:
    """Tell whether a statement ends a transaction, or begins or ends a part of one."""
    return _begins(query, _ENDS + _STEERS)


def _begins(query: object, words: tuple[str, ...]) -> bool:
    return type(query) is str and query[:32].lstrip().upper().startswith(words)


def is_in_pipeline(use: Use) -> bool:
    """Tell whether statements are now sent without waiting for their results."""
    return use.session.namespace.get("_pipeline") is not None


def _await_turn(work: Work, use: Use) -> None:
    """Wait while another thread's statement runs on the same connection: it must not be hit."""
    lock = use.session.namespace["lock"]
    while lock.locked():
        if not work.is_wanted():
            what = "its connection is in use by another statement"
            raise work.error(use.session.stops, what, waiting=True)
        sleep(_TURN)


def run_for(statement: Statement, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Run the statement by calling `function`; return what that returns.

    Raises `RequestAbandoned` or `DeadlineExceeded` if its work isn't wanted any more.
    """
    use = statement.use
    try:
        statement.begin()
        return function(*args, **kwargs)
    except psycopg.OperationalError as ex:
        use.statement = None
        statement.end_with(ex)
        raise
    finally:
        # No call comes before this, in which an interrupt could prevent it: then the next statement
        # on this connection would be canceled.
        use.statement = None
        statement.end()


def rows_for(work: Work, use: Use, rows: Any) -> Iterator[Any]:
    """Yield the rows of a statement that runs for a piece of work."""
    with closing(rows):
        while True:
            row = run_for(Statement(work, use), next, rows, _END)
            if row is _END:
                return
            yield row


_END = object()


@contextmanager
def running(statement: Statement) -> Iterator[None]:
    """Run the statement inside. Raises what `run_for` raises, which has no call around its own."""
    use = statement.use
    try:
        statement.begin()
        yield
    except psycopg.OperationalError as ex:
        use.statement = None
        statement.end_with(ex)
        raise
    finally:
        use.statement = None
        statement.end()


@contextmanager
def copy_for(statement: Statement, copying: Any) -> Iterator[Any]:
    """Wrap a COPY that runs for a piece of work."""
    with running(statement), copying as copy:
        yield copy
