"""Gone threads and wrappers: `process/borrowers.py` notices, `housekeeping.py` reclaims."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.process.borrowers import borrower
from tests.support.processes import run_script
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
    logged = [r.getMessage() for r in caplog.records if "reclaimed" in r.getMessage()]
    assert len(logged) == 20
    assert "forgetful" in logged[0]
    assert "connection.close()" in logged[0]


def test_an_open_transaction_of_a_dead_thread_is_rolled_back(make_wrapper: MakeWrapper) -> None:
    made = []

    def leave_open() -> None:
        made.append(wrapper := make_wrapper(pool={"max_size": 1}))
        wrapper.set_autocommit(False)
        with wrapper.cursor() as cursor:
            cursor.execute("CREATE TABLE left_open (n int)")

    in_thread(leave_open)
    (wrapper,) = made
    wait_until(lambda: wrapper.connection is None)
    wrapper.inc_thread_sharing()  # to look from here
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_open')")
        assert cursor.fetchone() == (None,)


@pytest.mark.parametrize("shared_on", [True, False])
def test_a_connection_shared_on_purpose_is_left_alone(
    shared_on: bool, make_wrapper: MakeWrapper
) -> None:
    """Be it that it isn't shared any more when the thread is missed that borrowed with it."""
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()
    pids, canaries = [], []

    def query() -> None:
        pids.append(hold(wrapper))
        canaries.append(canary := make_wrapper())
        hold(canary)
        if not shared_on:
            wrapper.dec_thread_sharing()

    in_thread(query)
    pool = canaries[0].pool
    assert pool is not None
    wait_until(lambda: pool.statistics().reclaimed == 1)
    assert hold(wrapper) == pids[0]
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().reclaimed == 0


def test_a_connection_that_another_thread_borrowed_goes_back_with_its_owner(
    make_wrapper: MakeWrapper,
) -> None:
    made = []

    def share() -> None:
        made.append(wrapper := make_wrapper())
        wrapper.inc_thread_sharing()
        in_thread(lambda: hold(wrapper))
        wrapper.dec_thread_sharing()

    in_thread(share)
    pool = made[0].pool
    assert pool is not None
    wait_until(lambda: pool.statistics().reclaimed == 1)
    assert made[0].connection is None


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


WITHOUT_A_POOL = """
import threading
from django_pooled_pg.pooling.process import borrowers

def query():
    backend_pid()
    connection.close()

for _ in range(20):
    thread = threading.Thread(target=query)
    thread.start()
    thread.join()
assert borrowers._gone.qsize() == 0
"""


def test_without_a_pool_nothing_piles_up(database: dict[str, Any]) -> None:
    run_script(WITHOUT_A_POOL, {"default": {**database, "OPTIONS": {"pool": False}}})
