"""Interrupts a thread at any moment of its work, and at no other.

An exception that is raised in another thread arrives when that thread gets around to it, which may
be late: so there is one permit for each piece of work. Whoever takes it, the interrupter or the
worker, decides; a worker that finds it taken waits for what was sent. No lock with a `with`:
that is where an interrupt would leave it locked.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_of_this_thread = threading.local()


class Interrupted(BaseException):
    """As a task queue's time limit, or Ctrl-C."""


class Interruptible:
    """Lets the thread that makes it be interrupted while it is in `run`."""

    def __init__(self) -> None:
        self._thread_id = ctypes.c_ulong(threading.get_ident())
        # One entry where an interrupt is permitted; a list's `pop` can't be parted.
        self._permits: list[None] = []
        # Whether whoever took the permit has sent an interrupt, or nobody has taken one.
        self._sent = True
        _of_this_thread.interruptible = self

    def run(self, work: Callable[[], str]) -> str:
        """Return what `work` returns, or "interrupted"."""
        self._sent = False
        try:
            self._permits.append(None)
            try:
                return work()
            finally:
                self._end()
        except Interrupted:
            self._end()
            return "interrupted"

    def interrupt(self) -> bool:
        """Called in another thread: interrupt, unless that isn't permitted now."""
        try:
            self._permits.pop()
        except IndexError:
            return False
        _raise_in(self._thread_id, ctypes.py_object(Interrupted))
        self._sent = True
        return True

    def start(self, thread: threading.Thread) -> None:
        """Start a thread without being interrupted meanwhile."""
        permitted = self._withdraw()
        if not permitted:
            self._await_sent()
        try:
            _start(thread)
        finally:
            if permitted:
                self._permits.append(None)

    def _withdraw(self) -> bool:
        """Permit no interrupt; tell whether none was sent."""
        try:
            self._permits.pop()
        except IndexError:
            return False
        return True

    def _end(self) -> None:
        """Let no interrupt arrive from now on."""
        if self._withdraw():
            self._sent = True
        else:
            self._await_sent()
            _raise_in(self._thread_id, None)  # takes back what has not arrived

    def _await_sent(self) -> None:
        while not self._sent:
            time.sleep(0.001)


_start = threading.Thread.start


def _start_undisturbed(thread: threading.Thread) -> None:
    mine: Interruptible | None = getattr(_of_this_thread, "interruptible", None)
    if mine is None:
        _start(thread)
    else:
        mine.start(thread)


# On Python 3.11 an exception for a thread that is starting another one may reach that one, before it
# runs: it dies, and who started it waits for ever.
if sys.version_info < (3, 12):
    threading.Thread.start = _start_undisturbed  # type: ignore[method-assign]
