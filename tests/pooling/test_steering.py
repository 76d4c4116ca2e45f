"""Pause, resume, resize, check and drain of a pool, against a real server."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg_pool import PoolClosed

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry, supply
from django_pooled_pg.pooling.errors import PoolExhausted
from django_pooled_pg.pooling.lease import Lease
from django_pooled_pg.pooling.pool import Pool
from django_pooled_pg.pooling.session import liveness
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]
MakePool = Callable[..., Pool]

NULL = {"class": "null"}
LONG = 30.0
both_kinds = pytest.mark.parametrize("kind", [{}, NULL], ids=["pool", "null"])


@pytest.fixture
def make_pool(make_wrapper: MakeWrapper) -> Iterator[MakePool]:
    made: list[Pool] = []

    def make(**options: Any) -> Pool:
        pool = make_wrapper({"timeout": LONG, **options}).pool
        assert pool is not None
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.resume()
        for lease in pool.leases():
            pool.give_back(lease)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture
def bystander(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    """Asks the server about others' sessions, over a pool of its own."""
    return make_wrapper()


def pid(lease: Lease) -> int:
    return int(lease.connection.info.backend_pid)


def visit(pool: Pool) -> int:
    """Borrow, query and give back, as a request does; return the session's process id."""
    lease = pool.borrow()
    try:
        lease.connection.execute("SELECT 1")
        return pid(lease)
    finally:
        pool.give_back(lease)


def make_idle(pool: Pool, count: int) -> set[int]:
    leases = [pool.borrow() for _ in range(count)]
    for lease in leases:
        pool.give_back(lease)
    wait_until(lambda: pool.statistics().idle == count)
    return {pid(lease) for lease in leases}


def idle_pids(pool: Pool) -> set[int]:
    backing = pool._ledger.backing
    assert backing is not None
    return {connection.info.backend_pid for connection in backing.idle_connections()}


def alive(bystander: DatabaseWrapper, pids: Collection[int]) -> set[int]:
    with bystander.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [list(pids)])
        return {row[0] for row in cursor.fetchall()}


def terminate(bystander: DatabaseWrapper, pids: Collection[int]) -> None:
    for one in pids:
        assert fetch(bystander, "SELECT pg_terminate_backend(%s)", [one])
    wait_until(lambda: not alive(bystander, pids))


def waiting(pool: Pool, count: int) -> None:
    wait_until(lambda: pool.statistics().waiting == count)


# drain


def test_drain_replaces_idle_connections_now(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(max_size=3)
    before = make_idle(pool, 3)
    pool.drain()
    wait_until(lambda: not alive(bystander, before))
    wait_until(lambda: pool.statistics().idle == 3)
    assert not idle_pids(pool) & before
    assert pool.statistics().size == 3


@both_kinds
def test_drain_replaces_lent_connections_when_they_return(
    make_pool: MakePool, bystander: DatabaseWrapper, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=1, **kind)
    lease = pool.borrow()
    before = pid(lease)
    pool.drain()
    assert lease.connection.execute("SELECT 1").fetchone() == (1,)
    pool.give_back(lease)
    wait_until(lambda: not alive(bystander, [before]))
    assert visit(pool) != before
    assert pool.statistics().connects == 2


@both_kinds
def test_drain_replaces_lent_connections_others_wait_for(
    make_pool: MakePool, executor: ThreadPoolExecutor, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=1, **kind)
    lease = pool.borrow()
    before = pid(lease)
    others = [executor.submit(visit, pool) for _ in range(3)]
    waiting(pool, 3)
    pool.drain()
    pool.give_back(lease)
    assert before not in {other.result(5) for other in others}
    wait_until(lambda: pool.statistics().size <= 1)


def test_drain_leaves_what_is_made_later(make_pool: MakePool) -> None:
    pool = make_pool(max_size=2)
    make_idle(pool, 1)
    pool.drain()
    wait_until(lambda: pool.statistics().idle == 1)
    assert visit(pool) == visit(pool)
    assert pool.statistics().connects == 2


def test_drain_of_a_closed_pool_does_nothing(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.drain()
    assert pool.statistics().connects == 0


# check_idle


def test_check_drops_those_whose_session_ended_and_only_those(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(max_size=4, min_size=0)
    pids = make_idle(pool, 4)
    dead = set(sorted(pids)[::2])
    terminate(bystander, dead)
    assert pool.check_idle() == (4, 2)
    assert idle_pids(pool) == pids - dead
    s = pool.statistics()
    assert (s.size, s.idle, s.dead, s.connects) == (2, 2, 2, 4)
    assert visit(pool) in pids - dead
    assert pool.check_idle() == (2, 0)


def test_check_fills_up_to_min_size(make_pool: MakePool, bystander: DatabaseWrapper) -> None:
    pool = make_pool(max_size=3, min_size=3)
    dead = make_idle(pool, 3)
    terminate(bystander, dead)
    assert pool.check_idle() == (3, 3)
    wait_until(lambda: pool.statistics().idle == 3)
    assert not idle_pids(pool) & dead


def test_check_leaves_lent_connections_alone(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(max_size=2)
    lease = pool.borrow()
    terminate(bystander, [pid(lease)])
    assert pool.check_idle() == (0, 0)
    assert pool.leases() == [lease]


@both_kinds
def test_check_of_an_empty_pool(make_pool: MakePool, kind: dict[str, Any]) -> None:
    pool = make_pool(**kind)
    assert pool.check_idle() == (0, 0)
    visit(pool)
    assert pool.check_idle()[1] == 0


def test_check_gives_whoever_came_meanwhile_one_of_them(
    make_pool: MakePool, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_size=1)
    (before,) = make_idle(pool, 1)
    go_on = slow_answers(monkeypatch)
    checking = executor.submit(pool.check_idle)
    wait_until(lambda: pool.statistics().idle == 0)
    other = executor.submit(visit, pool)
    waiting(pool, 1)
    go_on.set()
    assert other.result(5) == before
    assert checking.result(5) == (1, 0)


def slow_answers(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """From now on `check_idle` waits for the event, as for a server that is slow to answer."""
    go_on = threading.Event()

    def answers(connection: Any) -> bool:
        return go_on.wait(10) and liveness.answers(connection)

    monkeypatch.setattr(supply, "answers", answers)
    return go_on


def test_check_asks_all_at_once(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(max_size=5, min_size=0)
    make_idle(pool, 5)
    together = threading.Barrier(5)

    def answers(connection: Any) -> bool:
        together.wait(5)  # broken, if they come one by one
        return False

    monkeypatch.setattr(supply, "answers", answers)
    assert pool.check_idle() == (5, 5)


def test_check_that_is_broken_off_loses_no_connection(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_size=3)
    pids = make_idle(pool, 3)

    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.check_idle()
    assert idle_pids(pool) == pids
    assert pool.statistics().size == 3
    assert visit(pool) in pids


def test_close_while_it_checks(
    make_pool: MakePool,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    bystander: DatabaseWrapper,
) -> None:
    pool = make_pool(max_size=2)
    pids = make_idle(pool, 2)
    go_on = slow_answers(monkeypatch)
    checking = executor.submit(pool.check_idle)
    wait_until(lambda: pool.statistics().idle == 0)
    pool.close()
    go_on.set()
    assert checking.result(5) == (2, 0)
    wait_until(lambda: not alive(bystander, pids))


# resize


@both_kinds
def test_resize_up_lets_those_who_wait_go_on(
    make_pool: MakePool, executor: ThreadPoolExecutor, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=1, **kind)
    lease = pool.borrow()
    others = [executor.submit(pool.borrow) for _ in range(2)]
    waiting(pool, 2)
    pool.resize(max_size=3)
    assert len({pid(other.result(5)) for other in others} | {pid(lease)}) == 3
    assert pool.statistics().max_size == 3


def test_resize_fills_up_to_min_size(make_pool: MakePool) -> None:
    pool = make_pool(max_size=4)
    make_idle(pool, 1)
    pool.resize(min_size=3)
    wait_until(lambda: pool.statistics().idle == 3)
    assert pool.statistics().min_size == 3


def test_resize_down_closes_idle_surplus_at_once(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(max_size=4)
    pids = make_idle(pool, 4)
    pool.resize(max_size=1)
    assert len(idle_pids(pool)) == 1
    wait_until(lambda: alive(bystander, pids) == idle_pids(pool))
    s = pool.statistics()
    assert (s.size, s.idle, s.max_size, s.connects) == (1, 1, 1, 4)


@both_kinds
def test_resize_down_closes_lent_surplus_as_it_returns(
    make_pool: MakePool, bystander: DatabaseWrapper, kind: dict[str, Any]
) -> None:
    pool = make_pool(max_size=3, **kind)
    leases = [pool.borrow() for _ in range(3)]
    pids = [pid(lease) for lease in leases]
    pool.resize(max_size=1)
    for lease in leases:
        assert lease.connection.execute("SELECT 1").fetchone() == (1,)
    for lease in leases:
        pool.give_back(lease)
    wait_until(lambda: len(alive(bystander, pids)) == (0 if kind else 1))
    s = pool.statistics()
    assert (s.size, s.in_use) == (0 if kind else 1, 0)
    if not kind:
        assert visit(pool) == pids[-1]


def test_resize_down_while_others_wait(make_pool: MakePool, executor: ThreadPoolExecutor) -> None:
    pool = make_pool(max_size=3)
    leases = [pool.borrow() for _ in range(3)]
    pids = [pid(lease) for lease in leases]
    others = [executor.submit(visit, pool) for _ in range(4)]
    waiting(pool, 4)
    pool.resize(max_size=1)
    pool.give_back(leases[0])
    pool.give_back(leases[1])
    assert pool.statistics().waiting == 4, "the one connection allowed is still in use"
    pool.give_back(leases[2])
    assert {other.result(5) for other in others} == {pids[2]}
    assert pool.statistics().size == 1


def test_two_that_return_at_once_after_resize(
    make_pool: MakePool, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is too much goes, and not the other, too."""
    pool = make_pool(max_size=2)
    first, second = pool.borrow(), pool.borrow()
    pool.resize(max_size=1)
    closing, go_on = threading.Event(), threading.Event()

    def close_slowly(close: Callable[[], None] = first.connection.close) -> None:
        closing.set()
        assert go_on.wait(10)
        close()

    monkeypatch.setattr(first.connection, "close", close_slowly)
    returning = executor.submit(pool.give_back, first)
    assert closing.wait(5)
    pool.give_back(second)
    go_on.set()
    returning.result(5)
    assert idle_pids(pool) == {pid(second)}
    assert pool.statistics().size == 1


def test_resize_of_a_closed_pool_holds_when_it_opens(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    pool.resize(max_size=2)
    make_idle(pool, 2)


@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ({"min_size": 5}, "more than max_size 2"),
        ({"max_size": 0}, "at least 1"),
        ({"max_size": -1}, "whole number"),
        ({"max_size": 2.5}, "whole number"),
        ({"min_size": True}, "whole number"),
    ],
)
def test_resize_to_sizes_that_make_no_sense(
    make_pool: MakePool, sizes: dict[str, Any], error: str
) -> None:
    pool = make_pool(max_size=2)
    with pytest.raises(ImproperlyConfigured, match=error):
        pool.resize(**sizes)
    s = pool.statistics()
    assert (s.min_size, s.max_size) == (1, 2)
    make_idle(pool, 2)


def test_a_null_pool_may_lose_its_limit(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, **NULL)
    lease = pool.borrow()
    pool.resize(max_size=0)
    other = pool.borrow()
    assert pid(other) != pid(lease)
    with pytest.raises(ImproperlyConfigured, match="keeps no connections"):
        pool.resize(min_size=1)


# pause and resume


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
    backing = pool._ledger.backing
    assert backing is not None
    ident: list[int] = []

    def borrow() -> None:
        ident.append(threading.get_ident())
        backing.borrow(LONG)

    with pool._ledger.lock:
        other = executor.submit(borrow)
        # It has come as far as the lock, whose __enter__ may be in Python.
        wait_until(
            lambda: (
                ident and sys._current_frames()[ident[0]].f_code.co_name in ("borrow", "__enter__")
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


# Through Django's wrapper


@pytest.mark.parametrize("return_at", ["request", "transaction"])
@both_kinds
def test_wrappers_wait_and_go_on(
    make_wrapper: MakeWrapper,
    executor: ThreadPoolExecutor,
    bystander: DatabaseWrapper,
    return_at: str,
    kind: dict[str, Any],
) -> None:
    wrapper = make_wrapper({"timeout": LONG, "return_at": return_at, **kind}, alias="paused")
    other = make_wrapper({"timeout": LONG, "return_at": return_at, **kind}, alias="paused")
    pool = wrapper.pool
    assert pool is not None
    assert other.pool is pool
    if return_at == "request":
        hold(wrapper)  # as in a request
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (before,) = cursor.fetchone()
        pool.pause()
        # In the midst of its work: it goes on with the same session.
        assert fetch(wrapper, "SELECT pg_backend_pid()") == before
    if return_at == "request":
        assert backend_pid(wrapper) == before
        wrapper.close()
    wait_until(lambda: not alive(bystander, [before]))

    def request() -> int:
        try:
            return backend_pid(other)
        finally:
            other.close()

    other.inc_thread_sharing()
    asked = executor.submit(request)
    waiting(pool, 1)
    pool.resume()
    assert asked.result(5) != before
    assert pool.statistics().in_use == 0
