"""Connections are replaced by new ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django_pooled_pg.base import DatabaseWrapper
from tests.pooling.supply.common import (
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
