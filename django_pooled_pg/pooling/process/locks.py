"""Owns the locks of this package: those of `threading`, but on Python 3.14.

There an interrupt may leave `with lock:` locked for ever (python/cpython#148874; 3.15 mends it, no
3.14 does): a signal handler, or an exception set from another thread, may come between the return
of a lock's `__enter__` that is written in C and the first instruction that `with` looks after. One
in Python returns without such a moment, but has one after each call that it makes. So it reads an
attribute, which takes the lock: no call that Python makes itself, and no moment.

On every Python `lock.acquire()` followed by `try:` has that moment in between: use `with`. And no
loop with a condition inside of it, but call a function that loops: on 3.13 and 3.14 `with` doesn't
look after such a loop as it starts over (python/cpython#130279).
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any

# All these are written in C, and must be: a Python function would bring the moment back.
_take: Any = property(methodcaller("acquire"))
_exit: Any = property(attrgetter("release_at_exit"))


class UninterruptedRLock(_thread.RLock):  # type: ignore[misc]  # final in the stubs alone
    """A `threading.RLock` for Python 3.14. Its `__exit__` is that of C."""

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


# gevent's locks, where it has patched this process, are in Python: nothing here helps them, nor
# does a signal handler's exception often reach a greenlet.
_is_needed = sys.version_info[:2] == (3, 14) and isinstance(threading.RLock(), _thread.RLock)

RLock: Callable[[], threading.RLock] = UninterruptedRLock if _is_needed else threading.RLock
Lock: Callable[[], threading.Lock] = UninterruptedLock if _is_needed else threading.Lock  # type: ignore[assignment]  # of another class
