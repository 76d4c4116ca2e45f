"""Runs the one thread per process that watches work and stops what isn't wanted any more.

The thread sleeps until a look is due; without work, until there is some.
"""

from __future__ import annotations

import logging
import threading
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

from ..process.locks import Lock
from . import work as all_work
from .work import Work, current

logger = logging.getLogger(__name__)

# When one piece of work follows another, waking the thread for each would cost more than looking:
# so it stays awake for a while, and looks at this interval (seconds).
_AWAKE = 0.1

# Single operations on both are atomic.
_watched: set[Work] = set()
_wake: SimpleQueue[None] = SimpleQueue()
# When the thread looks next.
_next_look = inf
# Guards _thread.
_lock = Lock()
_thread: threading.Thread | None = None


def enter(work: Work) -> None:
    """Assign what this context does from now on to `work`, and watch `work` until it is over."""
    all_work.in_use = True
    all_work.context.set(work)
    _watched.add(work)
    if work.next_look < _next_look:
        _wake_up()


def leave(work: Work) -> None:
    """End what `enter` began. What other threads still do for it stays watched."""
    work.has_ended = True
    if work.running:
        work.forget_interrupted()
    # No token: asgiref may have copied the value here from another context. And not if other work
    # has begun since and goes on.
    if all_work.context.get() is work:
        all_work.context.set(work.outer)
    if not work.running:
        _watched.discard(work)


def _wake_up() -> None:
    global _thread
    _wake.put(None)
    if _thread is not None and _thread.is_alive():
        return
    with _lock:
        if _thread is not None and _thread.is_alive():
            return
        # Set before it starts: a thread whose start was interrupted ends by itself.
        _thread = thread = threading.Thread(
            target=_run, args=(_wake,), name="django_pooled_pg-watcher", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as ex:  # the system has no more threads, or the process ends
            logger.warning("Statements can't be canceled for now: %s", ex)


def _run(wake: SimpleQueue[None]) -> None:
    global _next_look
    while _thread is threading.current_thread():
        # Whoever comes during the look wakes it again.
        _next_look = inf
        due = _look_at_all()
        _next_look = due
        try:
            wake.get(timeout=None if due == inf else max(0.0, due - monotonic()))
        except Empty:
            pass
        _drain(wake)
    wake.put(None)  # for the thread that took over


def _drain(wake: SimpleQueue[None]) -> None:
    while not wake.empty():
        wake.get()


_had_work = False


def _look_at_all() -> float:
    global _had_work
    now, due = monotonic(), inf
    watched = list(_watched)
    for work in watched:
        if work.is_over():
            _watched.discard(work)
            continue
        try:
            due = min(due, work.look(now))
        except Exception:  # the others are still watched
            logger.exception(
                "Could not check whether work is still wanted; it is no longer watched"
            )
            _watched.discard(work)
    if watched or _had_work:
        due = min(due, now + _AWAKE)
    _had_work = bool(watched)
    return due


def start_anew() -> None:
    """In a forked child: forget the parent's thread and work, except that of the code that forked.

    That goes on here, too.
    """
    global _wake, _lock, _thread, _next_look
    _watched.clear()
    _wake, _lock, _thread, _next_look = SimpleQueue(), Lock(), None, inf
    work = current()
    while work is not None:
        work.running = set()  # threads that don't exist here
        _watched.add(work)
        _wake_up()
        work = work.outer
