"""An interrupt at the worst moment leaves no lock locked."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from django_pooled_pg.pooling.process import locks
from tests.support.waiting import wait_until


class Interrupt(BaseException):
    pass


def interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupt


@contextmanager
def interrupts() -> Iterator[None]:
    """Let SIGUSR1 raise `Interrupt`, and no thread lose its turn before it waits for something."""
    handler = signal.signal(signal.SIGUSR1, interrupt)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGUSR1, handler)


def is_free(lock: Any) -> bool:
    """Tell whether another thread can have it."""
    found: list[bool] = []

    def look() -> None:
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


# All of them on any Python: what is for 3.14 alone must do no harm elsewhere.
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(locks.RLock, id="RLock"),
        pytest.param(locks.Lock, id="Lock"),
        pytest.param(locks.UninterruptedRLock, id="UninterruptedRLock"),
        pytest.param(locks.UninterruptedLock, id="UninterruptedLock"),
    ],
)
def test_an_interrupt_as_a_lock_is_taken_leaves_it_free(make: Callable[[], Any]) -> None:
    lock = make()
    this_thread = threading.get_ident()
    taken = threading.Event()

    def wait_for_it() -> None:
        with lock:
            assert not is_free(lock)

    def is_waited_for() -> bool:
        # Or in its __enter__, if that is in Python.
        frame = sys._current_frames()[this_thread]
        return wait_for_it.__code__ in (frame.f_code, frame.f_back and frame.f_back.f_code)

    def interrupt_who_waits() -> None:
        with lock:
            taken.set()
            wait_until(is_waited_for)
            # This thread's: the one that waits isn't woken, and learns of it when it has the lock.
            signal.raise_signal(signal.SIGUSR1)

    thread = threading.Thread(target=interrupt_who_waits)
    with interrupts():
        thread.start()
        taken.wait()
        with pytest.raises(Interrupt):
            wait_for_it()
        thread.join()
    assert is_free(lock)


def test_an_rlock_is_reentrant_and_a_lock_is_not() -> None:
    rlock, lock = locks.UninterruptedRLock(), locks.UninterruptedLock()
    with rlock, rlock, lock:
        assert lock.locked()
        assert not lock.acquire(blocking=False)
        assert not is_free(rlock)
    assert not lock.locked()
    assert is_free(rlock)
    lock.acquire()
    lock.release()


def test_an_error_inside_lets_a_lock_go_and_goes_on() -> None:
    rlock, lock = locks.UninterruptedRLock(), locks.UninterruptedLock()
    with pytest.raises(ValueError, match="so"), rlock, lock:
        raise ValueError("so")
    assert is_free(rlock)
    assert is_free(lock)


def test_they_are_those_of_threading_but_on_3_14() -> None:
    if sys.version_info[:2] == (3, 14):
        assert isinstance(locks.RLock(), locks.UninterruptedRLock)
        assert isinstance(locks.Lock(), locks.UninterruptedLock)
    else:
        assert (locks.RLock, locks.Lock) == (threading.RLock, threading.Lock)
