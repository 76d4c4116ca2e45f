"""The locks of this package: those of `threading`, except on Python 3.14.

There an interrupt may leave `with lock:` locked forever (python/cpython#148874; 3.15 fixes it, no
3.14 does): a signal handler, or an exception set from another thread, may come between the return
of a lock's `__enter__` written in C and the first instruction that `with` guards. An `__enter__`
in Python has no such gap at its return, but one after each call that it makes. So ours reads an
attribute, which takes the lock: Python itself makes no call, so there is no gap.

On every Python, `lock.acquire()` followed by `try:` has such a gap in between: use `with`. And
don't put a loop with a condition inside it, but call a function that loops: on 3.13 and 3.14 `with`
doesn't guard the moment when such a loop starts over (python/cpython#130279).
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any

# All these are written in C, and must be: a Python function would bring the gap back.
_take: Any = property(methodcaller("acquire"))
_exit: Any = property(attrgetter("release_at_exit"))


class UninterruptedRLock(_thread.RLock):  # type: ignore[misc]  # final in the stubs alone
    """A `threading.RLock` for Python 3.14. Its `__exit__` is the one in C."""

    __slots__ = ()
    _taken = _take

    def __enter__(self) -> bool:  # type: ignore[override]  # in the stubs it takes arguments
        taken: bool = self._taken
        return taken


class UninterruptedLock:
    """A `threading.Lock` for Python 3.14, which can't be subclassed."""

    __slots__ = ("acquire", "locked", "release", "release_at_exit")
    _taken = _take
    __exit__ = _exit

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire, self.release, self.locked = lock.acquire, lock.release, lock.locked
        self.release_at_exit = lock.__exit__

    def __enter__(self) -> bool:
        taken: bool = self._taken
        return taken


# Where gevent has patched this process, its locks are in Python: nothing here helps them, but a
# signal handler's exception rarely reaches a greenlet.
_is_needed = sys.version_info[:2] == (3, 14) and isinstance(threading.RLock(), _thread.RLock)

RLock: Callable[[], threading.RLock] = UninterruptedRLock if _is_needed else threading.RLock
Lock: Callable[[], threading.Lock] = UninterruptedLock if _is_needed else threading.Lock  # type: ignore[assignment]  # of another class
