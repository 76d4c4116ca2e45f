from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.reclaim import borrower
from tests.support.queries import hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function, name="forgetful")
    thread.start()
    thread.join(10)


def test_a_thread_keeps_its_borrower() -> None:
    assert borrower() is borrower()
    with ThreadPoolExecutor(1) as executor:
        other = executor.submit(borrower).result()
    assert other is not borrower()
    assert other.thread_id != borrower().thread_id


def test_a_thread_that_ends_without_closing_loses_no_slot(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = make_wrapper(pool={"max_size": 2}, alias="threads")

    def query() -> None:
        hold(make_wrapper(pool={"max_size": 2}, alias="threads"))

    for _ in range(20):
        in_thread(query)
    pool = wrapper.pool
    assert pool is not None
    wait_until(lambda: pool.statistics().reclaimed == 20)
    assert pool.statistics().in_use == 0
    wait_until(lambda: pool.statistics().idle == pool.statistics().size)
    assert hold(wrapper)
    logged = [r.getMessage() for r in caplog.records if "took back" in r.getMessage()]
    assert len(logged) == 20
    assert "forgetful" in logged[0]
    assert "connection.close()" in logged[0]


def test_an_open_transaction_of_a_dead_thread_is_rolled_back(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    wrapper.inc_thread_sharing()

    def leave_open() -> None:
        wrapper.set_autocommit(False)
        with wrapper.cursor() as cursor:
            cursor.execute("CREATE TABLE left_open (n int)")

    in_thread(leave_open)
    wrapper.dec_thread_sharing()
    pool = wrapper.pool
    assert pool is not None
    assert pool.statistics().in_use == 1
    pool.housekeeping.reclaim(next(iter(pool._ledger.leases)).borrower)
    assert wrapper.connection is None
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_open')")
        assert cursor.fetchone() == (None,)


def test_a_connection_shared_on_purpose_is_left_alone(make_wrapper: MakeWrapper) -> None:
    wrapper, canary = make_wrapper(), make_wrapper()
    wrapper.inc_thread_sharing()
    pids = []

    def query() -> None:
        pids.append(hold(wrapper))
        hold(canary)

    canary._thread_ident = -1  # so that it belongs to the thread below

    def claim_and_query() -> None:
        canary._thread_ident = threading.get_ident()
        query()

    in_thread(claim_and_query)
    assert canary.pool is not None
    wait_until(lambda: canary.pool.statistics().reclaimed == 1)  # type: ignore[union-attr]
    assert hold(wrapper) == pids[0]
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().reclaimed == 0


def test_a_wrapper_that_is_collected_loses_no_slot(make_wrapper: MakeWrapper) -> None:
    keeper = make_wrapper(alias="collected")
    wrapper = DatabaseWrapper(keeper.settings_dict, "collected")
    hold(wrapper)
    pool = keeper.pool
    assert pool is not None
    assert pool.statistics().in_use == 1
    del wrapper
    gc.collect()
    wait_until(lambda: pool.statistics().in_use == 0)
    assert pool.statistics().reclaimed == 1
