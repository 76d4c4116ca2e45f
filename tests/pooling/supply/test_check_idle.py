"""Idle connections are asked whether they are alive."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import supply
from django_pooled_pg.pooling.session import liveness
from tests.pooling.supply.common import (
    MakePool,
    alive,
    both_kinds,
    idle_pids,
    make_idle,
    pid,
    terminate,
    visit,
    waiting,
)
from tests.support.waiting import wait_until


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
