"""Notices that a borrower is gone: its thread ended, or its wrapper was garbage-collected.

The pool reclaims the lease. One thread of each process waits here, and does nothing until
somebody is gone or a pool's chores are due.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import FrameType

from .locks import Lock

logger = logging.getLogger(__name__)


class Borrower:
    """A thread that has borrowed. Not its `Thread`, which would then live as long as the lease."""

    __slots__ = ("in_request", "inner_requests", "name", "thread_id")
    # What to do if it has ended without returning its connection.
    advice = "Call django.db.connection.close() before such a thread ends."

    def __init__(self, thread_id: int, name: str) -> None:
        self.thread_id = thread_id
        self.name = name
        # Whether it works on a request, and on how many nested ones; for code that knows of
        # requests.
        self.in_request = False
        self.inner_requests = 0

    def frames(self) -> Iterator[FrameType]:
        """Yield the frames where it is now, the innermost first; nothing if it isn't running."""
        frame = sys._current_frames().get(self.thread_id)
        while frame is not None:
            yield frame
            frame = frame.f_back


class _ThreadLocal(threading.local):
    """Made anew for each thread that uses it, and dropped when that thread ends."""

    def __init__(self) -> None:
        thread = threading.current_thread()
        self.borrower = Borrower(threading.get_ident(), thread.name)
        self._at_end = _AtThreadEnd(self.borrower)


class _AtThreadEnd:
    """Only the thread's locals refer to it, so it goes when the thread does."""

    __slots__ = ("_borrower",)

    def __init__(self, borrower: Borrower) -> None:
        self._borrower = borrower

    # A default argument: when the process ends, the module's names are gone before this runs.
    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():
            gone(self._borrower)


# A SimpleQueue: destructors call put(), and may interrupt any code, even put() itself.
_gone: SimpleQueue[object] = SimpleQueue()
this_thread = _ThreadLocal()
"""Its `borrower` stands for this thread."""
# Guards _reaper.
_lock = Lock()
_reaper: threading.Thread | None = None


def borrower() -> Borrower:
    """Return the borrower that stands for this thread."""
    return this_thread.borrower


def gone(who: object) -> None:
    """Note that `who` (a `Borrower`, or a weak reference to a wrapper) no longer exists."""
    if _reaper is not None:  # else nobody has borrowed, and nobody would empty the queue
        _gone.put(who)


def wake() -> None:
    """Make the thread look after the pools now."""
    _gone.put(None)


def ensure_running(
    reclaim: Callable[[object], None], look_after: Callable[[], float | None]
) -> None:
    """Start the thread that calls `reclaim` with each borrower that is gone.

    It also calls `look_after`, whose result says after how many seconds to call it again, or
    `None`: only when woken.
    """
    global _reaper
    with _lock:
        if _reaper is None:
            _reaper = threading.Thread(
                target=_run,
                args=(_gone, reclaim, look_after),
                name="django_pooled_pg-housekeeping",
                daemon=True,
            )
            _reaper.start()


def _run(
    queue: SimpleQueue[object],
    reclaim: Callable[[object], None],
    look_after: Callable[[], float | None],
) -> None:
    delay: float | None = None
    while True:
        try:
            who = queue.get(timeout=delay)
        except Empty:
            who = None
        try:
            if who is not None:
                reclaim(who)
            delay = look_after()
        except Exception:  # what comes next must still be done
            logger.exception("Could not look after the pools")


def start_anew() -> None:
    """In a forked child: forget the parent's threads, which don't exist here."""
    global _gone, _lock, _reaper
    _gone, _lock, _reaper = SimpleQueue(), Lock(), None
