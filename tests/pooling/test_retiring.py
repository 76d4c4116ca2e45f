"""Idle connections go when too old, or when nobody needed them; up to `min_size` are replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.config import Connection
from django_pooled_pg.pooling.pool import Pool
from tests.conftest import MakeWrapper
from tests.pooling.supply.common import alive, idle_pids, make_idle, visit
from tests.support.waiting import wait_until

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(make_wrapper: MakeWrapper) -> MakePool:
    def make(**options: Any) -> Pool:
        pool = make_wrapper({"timeout": 30, **options}).pool
        assert pool is not None
        return pool

    return make


@pytest.fixture
def bystander(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    return make_wrapper()


def connections_of(pool: Pool) -> list[Connection]:
    backing = pool.ledger.backing
    assert backing is not None
    return backing.idle_connections()


def grow_old(pool: Pool, which: slice = slice(None)) -> None:
    for connection in connections_of(pool)[which]:
        connection._expire_at = 0.0


def is_settled(pool: Pool) -> bool:
    backing = pool.ledger.backing
    return backing is not None and backing.size == backing.idle and not backing.is_making()


def test_an_old_one_is_replaced_though_nobody_uses_the_pool(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(min_size=1, max_size=2)
    pid = visit(pool)
    grow_old(pool)
    wait_until(lambda: not alive(bystander, {pid}))
    wait_until(lambda: pool.statistics().idle == 1)
    assert visit(pool) != pid


def test_its_replacement_is_there_before_it_goes(make_pool: MakePool) -> None:
    pool = make_pool(min_size=2, max_size=3)
    make_idle(pool, 2)
    least = [2]
    backing = pool.ledger.backing
    assert backing is not None
    drop = backing.drop

    def noted(connection: Connection) -> None:
        least.append(backing.idle)
        drop(connection)

    backing.drop = noted  # type: ignore[method-assign]  # to see it
    pids = idle_pids(pool)
    grow_old(pool)
    wait_until(lambda: not idle_pids(pool) & pids and is_settled(pool), within=20)
    assert len(least) == 3
    assert min(least) == 2
    assert pool.statistics().size == 2


def test_one_goes_at_a_time(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(min_size=0, max_size=4)
    look_after = pool.supply.look_after
    monkeypatch.setattr(pool.supply, "look_after", lambda: None)  # of the housekeeping
    make_idle(pool, 4)
    wait_until(lambda: is_settled(pool))
    grow_old(pool)
    for left in (3, 2, 1, 0):
        look_after()
        assert pool.statistics().idle == left


def test_it_stays_while_no_other_can_be_made(
    make_wrapper: MakeWrapper, bystander: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper({"timeout": 30, "min_size": 1, "max_size": 2})
    pool = wrapper.pool
    assert pool is not None
    pid = visit(pool)
    may_connect = [False]
    opened = pool._connector._make.open

    def refuse(kwargs: dict[str, Any]) -> Connection:
        if not may_connect[0]:
            raise OSError("no more")
        return opened(kwargs)

    maker = pool._connector._make._replace(open=refuse)
    monkeypatch.setattr(pool._connector, "_make", maker)
    grow_old(pool)
    wait_until(lambda: pool.statistics().connect_errors >= 3, within=20)
    assert alive(bystander, {pid})
    may_connect[0] = True
    wait_until(lambda: not alive(bystander, {pid}), within=20)


def test_where_there_is_no_room_it_goes_first(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(min_size=2, max_size=2)
    pids = make_idle(pool, 2)
    grow_old(pool)
    wait_until(lambda: not alive(bystander, pids), within=20)
    wait_until(lambda: pool.statistics().idle == 2)
    assert pool.statistics().size == 2


def test_what_nobody_needed_for_so_long_goes_all_at_once(
    make_pool: MakePool, bystander: DatabaseWrapper
) -> None:
    pool = make_pool(min_size=1, max_size=4, max_idle=600)
    pids = make_idle(pool, 4)
    pool.supply.look_after()
    assert pool.statistics().idle == 4
    for connection in connections_of(pool)[:3]:
        connection._django_pooled_pg_session.idle_since -= 601  # type: ignore[attr-defined]  # ours
    pool.supply.look_after()
    assert pool.statistics().idle == 1
    wait_until(lambda: len(alive(bystander, pids)) == 1)


def test_those_to_be_kept_are_kept_however_idle(make_pool: MakePool) -> None:
    pool = make_pool(min_size=2, max_size=4, max_idle=0.1)
    make_idle(pool, 4)
    wait_until(lambda: pool.statistics().idle == 2)
    kept = idle_pids(pool)
    for _ in range(5):
        pool.supply.look_after()
    assert idle_pids(pool) == kept


def test_a_lent_one_is_left_alone(make_pool: MakePool) -> None:
    pool = make_pool(min_size=0, max_size=2, max_idle=0.1)
    lease = pool.borrow()
    lease.connection._expire_at = 0.0
    pool.supply.look_after()
    lease.connection.execute("SELECT 1")
    pool.give_back(lease)
