from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg import DeadlineExceeded, deadline
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring.figures import by_name
from django_pooled_pg.monitoring.snapshot import process_snapshot
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.connector import SessionMaker
from django_pooled_pg.pooling.pool import Pool
from tests.conftest import MakeWrapper
from tests.support.queries import fetch
from tests.support.waiting import wait_until

_numbers = itertools.count()


@pytest.fixture
def alias() -> str:
    return f"registry{next(_numbers)}"


def session_maker(settings: Any, config: Any) -> Any:
    def connect(*args: Any) -> Any:
        raise AssertionError("nobody connects here")

    return SessionMaker(connect, connect)


def settings(**pool: Any) -> dict[str, Any]:
    return {"NAME": "books", "OPTIONS": {"pool": pool}}


def test_equal_settings_share_a_pool(alias: str) -> None:
    pool = registry.pool_for(alias, settings(), session_maker)
    assert isinstance(pool, Pool)
    assert registry.pool_for(alias, settings(), session_maker) is pool
    assert registry.pool_for(alias, settings(max_size=2), session_maker) is not pool
    assert pool in registry.pools()


def test_what_packages_put_into_the_settings_makes_no_pool_of_its_own(alias: str) -> None:
    """django-tenants notes the schema of each request there."""
    source = settings()
    pool = registry.pool_for(alias, source, session_maker)
    source["SCHEMA"] = "tenant_b"
    assert registry.pool_for(alias, source, session_maker) is pool


def test_many_threads_at_once_make_one_pool(alias: str) -> None:
    barrier = threading.Barrier(8)

    def find(_: int) -> Pool | None:
        barrier.wait(5)
        return registry.pool_for(alias, settings(), session_maker)

    with ThreadPoolExecutor(8) as executor:
        pools = set(executor.map(find, range(8)))
    assert len(pools) == 1


def test_settings_changed_in_place_have_a_pool_of_their_own(alias: str) -> None:
    source = settings()
    first = registry.pool_for(alias, source, session_maker)
    source["NAME"] = "test_books"
    second = registry.pool_for(alias, source, session_maker)
    assert second is not first
    source["NAME"] = "books"
    assert registry.pool_for(alias, source, session_maker) is first
    assert {first, second} <= set(registry.pools())


def test_settings_that_change_while_a_pool_is_made_are_not_taken_for_its_own(alias: str) -> None:
    source = settings()

    def while_another_thread_changes_them(made_for: Any, config: Any) -> Any:
        source["OPTIONS"]["application_name"] = "changed"
        return session_maker(made_for, config)

    pool = registry.pool_for(alias, source, while_another_thread_changes_them)
    assert registry.pool_for(alias, source, session_maker) is not pool
    assert registry.pool_for(alias, settings(), session_maker) is pool


def test_no_pool_where_the_settings_say_so(alias: str) -> None:
    assert registry.pool_for(alias, {"OPTIONS": {"pool": False}}, session_maker) is None


def test_bad_settings_leave_nothing_behind(alias: str) -> None:
    before = registry.pools()
    with pytest.raises(ImproperlyConfigured):
        registry.pool_for(alias, settings(maxsize=2), session_maker)
    assert registry.pools() == before


def test_closing_an_alias_nobody_knows_is_fine() -> None:
    registry.close("nobody")


def test_a_snapshot_notices_changes_inside() -> None:
    source = settings(max_size=2)
    copy = registry.snapshot(source)
    assert copy == source
    source["OPTIONS"]["pool"]["max_size"] = 3
    assert copy != source


def of(alias: str) -> list[Pool]:
    return [pool for pool in registry.pools() if pool.alias == alias]


@pytest.fixture
def switch(make_wrapper: MakeWrapper, alias: str) -> Callable[[object], DatabaseWrapper]:
    """Change the settings of a wrapper in place, as `settings_dict["NAME"] = ...` does."""
    wrapper = make_wrapper(pool={"max_size": 2}, alias=alias)

    def switch(name: object) -> DatabaseWrapper:
        wrapper.close()
        wrapper.settings_dict["OPTIONS"]["application_name"] = f"{alias} {name}"
        assert fetch(wrapper, "SHOW application_name") == f"{alias} {name}"
        wrapper.close()
        return wrapper

    return switch


def test_going_to_and_fro_connects_once_for_each(switch: Any, alias: str) -> None:
    for name in "abcabc":
        switch(name)
    connects = {pool: pool.statistics().connects for pool in of(alias)}
    for name in "abcbca":
        switch(name)
    assert {pool: pool.statistics().connects for pool in of(alias)} == connects
    assert len(connects) == 3


def test_pools_that_were_left_behind_are_forgotten(
    switch: Any, alias: str, make_wrapper: MakeWrapper
) -> None:
    for name in range(60):
        wrapper = switch(name)
        assert len(of(alias)) <= registry._LEFT_BEHIND + 1
    assert wrapper.pool in of(alias)
    # And one entry of what those that were forgotten had counted.
    shown = [pool for pool in process_snapshot()["pools"] if pool["alias"] == alias]
    assert len(shown) == registry._LEFT_BEHIND + 2
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
    asking = make_wrapper()
    wait_until(lambda: fetch(asking, sql, [f"{alias} %"]) <= registry._LEFT_BEHIND + 1)


def test_what_was_counted_is_not_forgotten(switch: Any, alias: str) -> None:
    """Prometheus takes a counter that goes backwards for one that began anew."""

    def summed() -> dict[str, Any]:
        ours = [asdict(each) for each in registry.statistics() if each.alias == alias]
        (summed,) = by_name(ours)
        return summed

    before = None
    for number, name in enumerate([*range(15), *range(15), 3, 3, 4], start=1):
        switch(name)
        now = summed()
        assert (now["borrows"], now["returns"], sum(now["wait"]["buckets"])) == (number,) * 3
        assert sum(now["connect"]["buckets"]) == now["connects"]
        assert now["max_size"] == 2 * len(of(alias))
        if before is not None:
            for counter in ("connects", "resets"):
                assert now[counter] >= before[counter]
            for durations, figure in (("held", "total"), ("wait", "max"), ("connect", "total")):
                assert now[durations][figure] >= before[durations][figure]
        before = now


def test_stopped_work_is_not_forgotten(switch: Any, alias: str) -> None:
    with pytest.raises(DeadlineExceeded), deadline(0.01):
        fetch(switch("stopped"), "SELECT pg_sleep(30)")
    for name in range(20):
        switch(name)
    assert sum(each.deadlines for each in registry.statistics() if each.alias == alias) == 1


def test_those_asked_for_lately_are_kept(switch: Any, alias: str) -> None:
    first = switch("often").pool
    for name in range(30):
        switch(name)
        assert switch("often").pool is first


def test_one_that_lends_is_forgotten_later(switch: Any, alias: str) -> None:
    lending = switch("lending").pool
    assert lending is not None
    lease = lending.borrow()
    for name in range(20):
        switch(name)
    assert lending in of(alias)
    assert lease.connection.execute("SELECT 1").fetchone() == (1,)
    lending.give_back(lease)
    switch("another")
    assert lending not in of(alias)
    assert lending.statistics().size == 0


@pytest.fixture
def forgotten(switch: Any, alias: str) -> Pool:
    """What a wrapper of another thread still has."""
    pool = switch("forgotten").pool
    for name in range(20):
        switch(name)
    assert isinstance(pool, Pool)
    assert pool not in of(alias)
    return pool


def test_a_forgotten_pool_that_is_opened_again_is_kept_again(forgotten: Pool, alias: str) -> None:
    lease = forgotten.borrow()
    assert forgotten in of(alias)
    assert len(of(alias)) == registry._LEFT_BEHIND + 1
    forgotten.give_back(lease)
    registry.close(alias)
    assert forgotten.statistics().size == 0


def test_a_forgotten_pool_is_found_by_who_has_to_find_all(forgotten: Pool) -> None:
    """A fork may come in the midst of its opening."""
    assert forgotten in registry._all_alive()


def test_settings_that_come_again_get_the_pool_that_was_forgotten(
    forgotten: Pool, switch: Any
) -> None:
    """Two of the same settings could have twice `max_size` connections."""
    assert switch("forgotten").pool is forgotten


def test_what_nobody_has_any_more_is_gone(switch: Any, alias: str) -> None:
    for name in range(20):
        switch(name)
    gc.collect()
    alive = [pool for pool in registry._all_alive() if pool.alias == alias]
    assert sorted(map(id, alive)) == sorted(map(id, of(alias)))


def test_a_lease_made_while_its_pool_was_being_forgotten_is_not_lost(
    switch: Any, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lending = switch("lending").pool
    assert lending is not None
    leases: list[Any] = []
    close = lending.close

    def close_too_late(timeout: float = 5.0) -> None:
        if not leases and lending not in of(alias):
            backing = lending.ledger.backing
            monkeypatch.setattr(lending, "close", close)
            leases.append(lending.borrow())
            assert backing is not None
            lending.ledger.backing = None
            backing.close()

    monkeypatch.setattr(lending, "close", close_too_late)
    for name in range(10):
        switch(name)
    assert lending in of(alias)
    lending.give_back(leases[0])


def test_closing_an_alias_closes_what_others_have_of_its_database(
    make_wrapper: MakeWrapper, alias: str
) -> None:
    def idle(wrapper: DatabaseWrapper) -> int:
        assert wrapper.pool is not None
        return wrapper.pool.statistics().idle

    twin = make_wrapper(alias=alias, OPTIONS={"application_name": "twin"})
    elsewhere = make_wrapper(NAME="postgres")
    without = make_wrapper(pool=False)
    for wrapper in (twin, elsewhere):
        fetch(wrapper, "SELECT 1")
        wrapper.close()
        wait_until(lambda wrapper=wrapper: idle(wrapper) == 1)
    without.close_pool()
    assert (idle(twin), idle(elsewhere)) == (0, 1)
