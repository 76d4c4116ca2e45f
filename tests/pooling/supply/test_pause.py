"""Borrowers wait from pause to resume."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from psycopg_pool import PoolClosed

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.errors import PoolExhausted
from tests.pooling.supply.common import (
    LONG,
    MakePool,
    alive,
    both_kinds,
    make_idle,
    pid,
    visit,
    waiting,
)
from tests.support.waiting import wait_until


def test_pause_closes_idle_connections_now(make_pool: MakePool, bystander: DatabaseWrapper) -> None:
    pool = make_pool(max_size=2)
    pids = make_idle(pool, 2)
    pool.pause()
    wait_until(lambda: not alive(bystander, pids))
    s = pool.statistics()
    assert (s.paused, s.size, s.idle) == (True, 0, 0)


@both_kinds
def test_lent_connections_go_on_and_are_closed_when_they_return(
    make_pool: MakePool, bystander: DatabaseWrapper, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=2, **kind)
    lease = pool.borrow()
    before = pid(lease)
    pool.pause()
    assert lease.connection.execute("SELECT 1").fetchone() == (1,)
    assert pool.statistics().in_use == 1
    pool.give_back(lease)
    wait_until(lambda: not alive(bystander, [before]))
    assert pool.statistics().size == 0


@both_kinds
def test_borrowers_wait_until_resume(
    make_pool: MakePool, executor: ThreadPoolExecutor, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=2, **kind)
    visit(pool)
    pool.pause()
    others = [executor.submit(visit, pool) for _ in range(5)]
    waiting(pool, 5)
    assert pool.statistics().connects == 1
    pool.resume()
    assert all(other.result(5) for other in others)
    s = pool.statistics()
    assert (s.paused, s.waiting, s.exhausted) == (False, 0, 0)


@both_kinds
def test_those_who_waited_already_are_served_after_resume(
    make_pool: MakePool, executor: ThreadPoolExecutor, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=1, **kind)
    lease = pool.borrow()
    before = pid(lease)
    others = [executor.submit(visit, pool) for _ in range(3)]
    waiting(pool, 3)
    pool.pause()
    pool.give_back(lease)
    # Not before the pause is over, though a connection has come back.
    waiting(pool, 3)
    assert pool.statistics().size == 0
    pool.resume()
    assert before not in {other.result(5) for other in others}


def test_a_borrower_that_is_not_served_in_time_learns_why(make_pool: MakePool) -> None:
    pool = make_pool(timeout=0.05)
    pool.pause()
    with pytest.raises(PoolExhausted) as caught:
        pool.borrow()
    said = str(caught.value)
    assert "it is paused, and was not resumed within 0.05 s (timeout)" in said
    assert said.endswith(f"To go on: manage.py poolctl resume {pool.alias}")
    s = pool.statistics()
    assert (s.exhausted, s.waiting, s.connects) == (1, 0, 0)


def test_max_waiting_holds_during_a_pause(
    make_pool: MakePool, executor: ThreadPoolExecutor
) -> None:
    pool = make_pool(max_size=1, max_waiting=2)
    lease = pool.borrow()
    others = [executor.submit(visit, pool) for _ in range(2)]
    waiting(pool, 2)
    pool.pause()
    pool.give_back(lease)
    # Those who waited before the pause aren't turned away, for there are no more than two.
    waiting(pool, 2)
    with pytest.raises(PoolExhausted, match=r"it is paused, and 2 borrowers \(max_waiting\)"):
        pool.borrow()
    pool.resume()
    assert all(other.result(5) for other in others)


def test_those_who_waited_already_are_not_turned_away_for_others(
    make_pool: MakePool, executor: ThreadPoolExecutor
) -> None:
    pool = make_pool(max_size=1, max_waiting=1)
    pool.borrow()
    before = executor.submit(visit, pool)
    waiting(pool, 1)
    pool.supply.gate.close()  # as if pause() were not through yet
    newcomer = executor.submit(visit, pool)
    waiting(pool, 2)
    pool.pause()
    wait_until(lambda: pool.supply.gate.waiting == 2)
    assert not before.done()
    pool.supply.config = dataclasses.replace(pool.config, max_waiting=0)
    pool.resume()
    assert before.result(5)
    assert newcomer.result(5)


def test_pausing_and_resuming_twice(make_pool: MakePool, executor: ThreadPoolExecutor) -> None:
    pool = make_pool()
    pool.resume()
    visit(pool)
    pool.pause()
    pool.pause()
    other = executor.submit(visit, pool)
    waiting(pool, 1)
    pool.resume()
    assert other.result(5)
    pool.resume()
    assert visit(pool)
    assert pool.statistics().connects == 2


def test_close_during_a_pause_does_not_end_it(
    make_pool: MakePool, executor: ThreadPoolExecutor
) -> None:
    pool = make_pool()
    lease = pool.borrow()
    pool.pause()
    other = executor.submit(visit, pool)
    waiting(pool, 1)
    pool.close()
    registry.close(pool.alias)
    pool.give_back(lease)
    s = pool.statistics()
    assert (s.paused, s.waiting, s.size) == (True, 1, 0)
    pool.resume()
    assert other.result(5)


def test_nothing_opens_the_pool_during_a_pause(make_pool: MakePool) -> None:
    pool = make_pool(timeout=0.05, min_size=1)
    pool.pause()
    pool.open()
    with pytest.raises(PoolExhausted, match="paused"):
        pool.open(wait=True)
    pool.drain()
    assert pool.check_idle() == (0, 0)
    pool.resize(max_size=3)
    assert pool.statistics().connects == 0
    pool.resume()
    pool.supply.config = dataclasses.replace(pool.config, timeout=LONG)
    pool.open(wait=True)
    s = pool.statistics()
    assert (s.idle, s.max_size) == (1, 3)


def test_a_borrower_that_passed_the_gate_just_before_waits_too(
    make_pool: MakePool, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would open the pool while the server is being restarted."""
    pool = make_pool()
    through, go_on = threading.Event(), threading.Event()
    pass_through = pool.supply.gate.pass_through

    def pass_slowly(timeout: float) -> bool:
        passed = pass_through(timeout)
        through.set()
        return go_on.wait(10) and passed

    monkeypatch.setattr(pool.supply.gate, "pass_through", pass_slowly)
    other = executor.submit(visit, pool)
    assert through.wait(5)
    pool.pause()
    go_on.set()
    waiting(pool, 1)
    assert pool.statistics().connects == 0
    pool.resume()
    assert other.result(5)


def test_a_borrower_that_comes_just_as_the_pool_closes_does_not_wait_in_vain(
    make_pool: MakePool, executor: ThreadPoolExecutor
) -> None:
    pool = make_pool(max_size=1)
    pool.borrow()
    backing = pool.ledger.backing
    assert backing is not None
    ident: list[int] = []

    def borrow() -> None:
        ident.append(threading.get_ident())
        backing.borrow(LONG)

    with pool.ledger.lock:
        other = executor.submit(borrow)
        # It has come as far as the lock, whose __enter__ may be in Python.
        wait_until(
            lambda: (
                ident
                and sys._current_frames()[ident[0]].f_code.co_name in ("take_or_queue", "__enter__")
            )
        )
        pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        other.result(5)


def test_pausing_while_many_borrow(make_pool: MakePool, executor: ThreadPoolExecutor) -> None:
    """No borrower fails, and whenever the pool is paused and all is back, nothing is open."""
    pool = make_pool(max_size=4)
    stopping = threading.Event()

    def work() -> int:
        done = 0
        while not stopping.is_set():
            visit(pool)
            done += 1
        return done

    working = [executor.submit(work) for _ in range(8)]
    try:
        for _ in range(20):
            borrows = pool.statistics().borrows
            wait_until(lambda borrows=borrows: pool.statistics().borrows > borrows)  # type: ignore[misc]
            pool.pause()
            wait_until(lambda: pool.statistics().waiting == 8)
            s = pool.statistics()
            assert (s.size, s.in_use, s.idle) == (0, 0, 0)
            pool.resume()
    finally:
        stopping.set()
        pool.resume()
    assert all(future.result(5) for future in working)
    assert pool.statistics().exhausted == 0


def test_an_interrupt_at_the_gate_leaves_nothing_behind(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.pause()
    main = threading.get_ident()

    def interrupt() -> None:
        waiting(pool, 1)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = monotonic()
    with pytest.raises(KeyboardInterrupt):
        pool.borrow()
    assert monotonic() - started < LONG / 2
    thread.join()
    s = pool.statistics()
    assert (s.waiting, s.in_use, s.exhausted) == (0, 0, 0)
    pool.resume()
    assert visit(pool)


def test_a_forked_child_is_not_paused(make_pool: MakePool) -> None:
    pool = make_pool()
    visit(pool)
    pool.pause()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            paused = pool.statistics().paused
            pool.supply.config = dataclasses.replace(pool.config, timeout=5)
            os.write(writing, b"paused" if paused else b"pid %d" % visit(pool))
            pool.close()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert answer.read().startswith("pid ")
    os.waitpid(child, 0)
    assert pool.statistics().paused
