"""What an interrupt lost is found; tests/faults/test_interrupts.py tries when one may come."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import strays
from django_pooled_pg.pooling.backing.null import AnyBacking
from django_pooled_pg.pooling.pool import Pool
from django_pooled_pg.pooling.process import borrowers
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def pool(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """One with an idle connection, of which nobody looks for strays but the test."""
    wrapper = make_wrapper(pool={"max_size": 2})
    pool = wrapper.pool
    assert pool is not None
    pool.give_back(pool.borrow())
    wait_until(lambda: pool.statistics().idle == pool.statistics().size == 1)
    looks: list[float] = []
    monkeypatch.setattr(pool, "look_after", lambda: looks.append(60.0) or 60.0)
    borrowers.wake()
    wait_until(lambda: looks)  # what had begun to look is through
    monkeypatch.setattr(strays, "LOOK_EVERY", 0)
    pool.strays._seen = {}  # it may have been on its way in a look before
    pool.strays._lost = pool.strays._lost_looks = 0
    return pool


def backing_of(pool: Pool) -> AnyBacking:
    backing = pool.ledger.backing
    assert backing is not None
    return backing


def test_what_is_idle_or_lent_is_no_stray(pool: Pool) -> None:
    for _ in range(5):
        pool.strays.look()
    lease = pool.borrow()
    for _ in range(5):
        pool.strays.look()
    assert not lease.connection.closed
    pool.give_back(lease)
    assert pool.statistics().reclaimed == 0


def test_a_connection_that_nobody_has_is_closed_in_the_second_look(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    connection = backing_of(pool).take_idle()
    assert connection is not None
    pool.strays.look()
    assert not connection.closed, "it may be on its way"
    pool.strays.look()
    assert connection.closed
    assert "had lost a connection" in caplog.text
    now = pool.statistics()
    assert (now.size, now.reclaimed, now.borrows - now.returns) == (0, 1, 0)


def test_one_that_arrives_in_between_is_left_alone(pool: Pool) -> None:
    connection = backing_of(pool).take_idle()
    assert connection is not None
    pool.strays.look()
    backing_of(pool).put(connection)
    wait_until(lambda: pool.statistics().idle == 1)
    pool.strays.look()
    assert not connection.closed


def test_one_that_is_on_its_way_in_two_looks_but_was_lent_in_between_is_left_alone(
    pool: Pool,
) -> None:
    for _ in range(3):
        connection = backing_of(pool).take_idle()
        assert connection is not None
        pool.strays.look()
        assert not connection.closed
        backing_of(pool).put(connection)
        pool.give_back(pool.borrow())
        wait_until(lambda: pool.statistics().idle == 1)


def test_a_slot_without_a_connection_is_free_again(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    backing_of(pool)._nconns += 1
    for _ in range(strays._LOOKS_FOR_SLOTS):
        pool.strays.look()
        assert pool.statistics().size == 2
    pool.strays.look()
    assert pool.statistics().size == 1
    assert "had left 1 slots miscounted" in caplog.text


def test_a_reset_that_hangs_as_its_pool_closes_is_named(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def reset(connection: object) -> None:
        hangs.set()
        go_on.wait(20)

    pool = make_wrapper(pool={"max_size": 1, "reset": reset}, alias="hanging").pool
    assert pool is not None
    monkeypatch.setattr(pool, "look_after", lambda: 60.0)
    monkeypatch.setattr(strays, "LOOK_EVERY", 0)
    lease = pool.borrow()
    pool.give_back(lease)
    assert hangs.wait(5)
    pool.close(0.01)
    for _ in range(2):
        pool.strays.look()
    go_on.set()
    assert lease.connection.closed
    assert re.search(
        r"Pool 'hanging': 'reset', or 'configure' after it, has run for \d+\.\d s, and the pool was "
        "closed meanwhile; closed the connection",
        caplog.text,
    )
    assert "interrupt" not in caplog.text


def test_one_that_was_given_up_is_counted_once(pool: Pool) -> None:
    """Whoever had it after all, and was only slow, drops it or puts it back as well."""
    backing = backing_of(pool)
    for end in (backing.drop, backing.put):
        connection = backing.borrow(5)
        pool.strays.look()
        pool.strays.look()
        assert connection.closed
        end(connection)
        assert pool.statistics().size == 0
