"""Sizes change while connections are lent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.base import DatabaseWrapper
from tests.pooling.supply.common import (
    NULL,
    MakePool,
    alive,
    both_kinds,
    idle_pids,
    make_idle,
    pid,
    visit,
    waiting,
)
from tests.support.waiting import wait_until


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
