"""Owns interrupting a thread at any moment of its work, and at no other.

An exception that is raised in another thread arrives when that thread comes to it, which may be
late: so there is one permit for each piece of work. Who takes it, the interrupter or the worker,
decides, and a worker that finds it taken waits for what was sent. No lock with a `with`: it is just
there that an interrupt would leave it locked.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable


class Interrupted(BaseException):
    """As a task queue's time limit, or Ctrl-C."""


class Interruptible:
    """Lets the thread that made it be interrupted while it is in `run`."""

    def __init__(self, thread_id: int) -> None:
        self._thread_id = ctypes.c_ulong(thread_id)
        # One entry where an interrupt is permitted; a list's `pop` can't be parted.
        self._permits: list[None] = []
        self._sent = False

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

    def _end(self) -> None:
        """Let no interrupt arrive from now on."""
        try:
            self._permits.pop()
        except IndexError:
            while not self._sent:
                time.sleep(0.001)
            _raise_in(self._thread_id, None)  # takes back what has not arrived


_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
