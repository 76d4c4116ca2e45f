from __future__ import annotations

import _thread
import ctypes
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from django_pooled_pg.pooling.gate import Gate
from tests.support.waiting import wait_until

LONG = 30.0


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def test_open_at_first(gate: Gate) -> None:
    assert gate.is_open()
    assert gate.pass_through(0)
    assert gate.waiting == 0


def test_closed_until_the_timeout(gate: Gate) -> None:
    gate.close()
    started = monotonic()
    assert not gate.pass_through(0.05)
    assert 0.04 < monotonic() - started < 10
    assert gate.waiting == 0


@pytest.mark.parametrize("timeout", [0, -1.5])
def test_no_time_left(gate: Gate, timeout: float) -> None:
    gate.close()
    assert not gate.pass_through(timeout)
    assert gate.waiting == 0


def test_all_go_on_when_it_opens(gate: Gate, executor: ThreadPoolExecutor) -> None:
    gate.close()
    waiting = [executor.submit(gate.pass_through, LONG) for _ in range(8)]
    wait_until(lambda: gate.waiting == 8)
    gate.open()
    assert [future.result(5) for future in waiting] == [True] * 8
    assert gate.waiting == 0


def test_in_the_order_in_which_they_came(gate: Gate, executor: ThreadPoolExecutor) -> None:
    gate.close()
    for count in range(1, 4):
        executor.submit(gate.pass_through, LONG)
        wait_until(lambda count=count: gate.waiting == count)  # type: ignore[misc]
    released: list[int] = []
    turns = list(gate._waiting)

    class Noted:
        """Which one is let through; a lock itself can't be watched."""

        def __init__(self, number: int) -> None:
            self.number = number

        def release(self) -> None:
            released.append(self.number)
            turns[self.number].release()

    gate._waiting.clear()
    gate._waiting.extend(map(Noted, range(3)))  # type: ignore[arg-type]
    gate.open()
    assert released == [0, 1, 2]


def test_opened_just_before_it_queues(gate: Gate) -> None:
    class OpenedJustBefore(deque[Any]):
        def append(self, turn: Any) -> None:
            gate.open()
            super().append(turn)

    gate._waiting = OpenedJustBefore()
    gate.close()
    assert gate.pass_through(1.0), "nobody will open it again"
    assert gate.waiting == 0


def test_opened_while_nobody_waits_lets_nobody_through_later(gate: Gate) -> None:
    gate.open()
    gate.open()
    gate.close()
    assert not gate.pass_through(0.01)


def test_closing_twice_needs_one_opening(gate: Gate, executor: ThreadPoolExecutor) -> None:
    gate.close()
    gate.close()
    waiting = executor.submit(gate.pass_through, LONG)
    wait_until(lambda: gate.waiting == 1)
    gate.open()
    assert waiting.result(5)
    assert gate.is_open()


def test_opening_and_closing_all_the_time_loses_nobody(
    gate: Gate, executor: ThreadPoolExecutor
) -> None:
    def pass_often() -> int:
        return sum(gate.pass_through(LONG) for _ in range(300))

    passing = [executor.submit(pass_often) for _ in range(6)]
    while not all(future.done() for future in passing):
        gate.close()
        gate.open()
    assert [future.result() for future in passing] == [300] * 6
    assert gate.waiting == 0


def test_an_interrupt_leaves_nothing_behind(gate: Gate) -> None:
    gate.close()
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: gate.waiting == 1)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = monotonic()
    with pytest.raises(KeyboardInterrupt):
        gate.pass_through(LONG)
    assert monotonic() - started < LONG / 2
    thread.join()
    assert gate.waiting == 0
    gate.open()
    assert gate.pass_through(0)


class TimeLimitExceeded(Exception):
    """As task queues throw into a thread."""


@pytest.mark.parametrize("opens", [True, False], ids=["as it opens", "as its time is over"])
def test_an_exception_from_outside_leaves_nothing_behind(
    gate: Gate, executor: ThreadPoolExecutor, opens: bool
) -> None:
    gate.close()
    started = threading.Event()
    ident: list[int] = []

    def wait() -> None:
        ident.append(_thread.get_ident())
        started.set()
        gate.pass_through(LONG if opens else 0.2)
        for _ in range(1000):  # whatever comes next meets it
            pass

    waiting = executor.submit(wait)
    assert started.wait(5)
    wait_until(lambda: gate.waiting == 1)
    # It arrives when the thread is done with waiting: locks know nothing of it.
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident[0]), ctypes.py_object(TimeLimitExceeded)
    )
    assert raised == 1
    if opens:
        gate.open()
    with pytest.raises(TimeLimitExceeded):
        waiting.result(5)
    assert gate.waiting == 0
