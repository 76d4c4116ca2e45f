"""Owns running a statement for a piece of work, which may stop being wanted meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import inf
from threading import get_ident
from time import monotonic
from typing import Any

import psycopg

from ..work.work import Work
from .cancel import Cancel
from .use import RETURNED_HANDLE, Use

# What ends transactions, and parts of them, is neither refused nor canceled.
_STEERS = ("ROLLBACK", "RELEASE", "SAVEPOINT")


def steers_transaction(query: object) -> bool:
    """Tell whether a statement begins or ends a part of a transaction."""
    return type(query) is str and query.startswith(_STEERS)


class Statement:
    """A statement that runs for a piece of work, while it runs: a context manager.

    Raises `RequestAbandoned` or `DeadlineExceeded` when the work isn't wanted any more.
    """

    __slots__ = ("_began", "_use", "_work", "thread_id")

    def __init__(self, work: Work, use: Use) -> None:
        self._work = work
        self._use = use
        self.thread_id = get_ident()

    def __enter__(self) -> None:
        work, use = self._work, self._use
        self._began = began = monotonic()
        if work.stopped or began >= work.until:
            work.require(use.session.stops)
        use.statement, use.work = self, work
        work.running.add(self)

    def __exit__(self, kind: object, error: BaseException | None, *args: object) -> None:
        work, use = self._work, self._use
        # First this, then that; stop() does it the other way round.
        use.statement = None
        work.running.discard(self)
        if use.cancel is None and work.until == inf:
            return
        seconds = monotonic() - self._began
        work.note_worked(seconds)
        if use.cancel is None:
            return
        use.end_cancel()
        if isinstance(error, psycopg.OperationalError):
            what = f"a statement was canceled after {seconds:.2f} s"
            raise work.error(use.session.stops, what) from error

    def stop(self) -> None:
        """Have the server cancel it. Called by the thread that watches the work, alone."""
        use = self._use
        before = use.cancel
        if before is not None and not before.is_to_be_repeated():
            return
        # First said, then looked; its borrower does it the other way round. One of the two sees the
        # other: who ends the statement, or the borrow, waits for the answer.
        use.cancel = cancel = Cancel(use.session.stops.pool_name, before)
        if self.is_running():
            cancel.send(use.quick, self.is_running)
        else:
            use.cancel = None
            cancel.withdraw()

    def is_running(self) -> bool:
        """Tell whether it runs still. An interrupt may have kept it from saying that it doesn't."""
        return self._use.statement is self and self._use.quick is not RETURNED_HANDLE


def rows_for(work: Work, use: Use, rows: Any) -> Iterator[Any]:
    """Yield the rows of a statement that runs for a piece of work."""
    with closing(rows):
        while True:
            with Statement(work, use):
                row = next(rows, _END)
            if row is _END:
                return
            yield row


_END = object()


@contextmanager
def copy_for(work: Work, use: Use, copying: Any) -> Iterator[Any]:
    """Be what a COPY is that runs for a piece of work."""
    with Statement(work, use), copying as copy:
        yield copy
