from __future__ import annotations

import threading

import psycopg
import pytest

from django_pooled_pg.pooling import waits
from django_pooled_pg.pooling.errors import PoolExhausted
from django_pooled_pg.pooling.pool import Pool
from django_pooled_pg.pooling.waits import Wait
from tests.conftest import MakeWrapper
from tests.support.waiting import wait_until


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Wait]:
    told: list[Wait] = []
    monkeypatch.setattr(waits, "on_wait", told.append)
    return told


def pool_of(make_wrapper: MakeWrapper, **options: object) -> Pool:
    pool = make_wrapper({"max_size": 1, "min_size": 1, "timeout": 30, **options}).pool
    assert pool is not None
    pool.give_back(pool.borrow())  # a session is there
    return pool


def test_who_gets_a_connection_at_once_tells_nothing(
    make_wrapper: MakeWrapper, told: list[Wait]
) -> None:
    pool = pool_of(make_wrapper)
    told.clear()  # the session had to be opened
    pool.give_back(pool.borrow())
    assert told == []


def test_a_wait_tells_how_long_it_was_and_who_held_a_connection(
    make_wrapper: MakeWrapper, told: list[Wait]
) -> None:
    pool = pool_of(make_wrapper, name="busy")
    lease = pool.borrow()
    told.clear()
    thread = threading.Thread(target=lambda: pool.give_back(pool.borrow()))
    thread.start()
    wait_until(lambda: pool.statistics().waiting == 1)
    pool.give_back(lease)
    thread.join()
    (wait,) = told
    assert (wait.pool_name, wait.error) == ("busy", None)
    assert 0 < wait.seconds < 30
    assert wait.holder is not None
    assert wait.holder.thread == threading.current_thread().name
    assert wait.holder.seconds > 0
    assert wait.holder.place.startswith("at ")


def test_a_wait_in_vain_tells_its_error(make_wrapper: MakeWrapper, told: list[Wait]) -> None:
    pool = pool_of(make_wrapper, timeout=0.1)
    lease = pool.borrow()
    told.clear()
    with pytest.raises(PoolExhausted) as exhausted:
        pool.borrow()
    pool.give_back(lease)
    (wait,) = told
    assert wait.error is exhausted.value
    assert wait.seconds >= 0.1


def test_nobody_holds_a_connection_where_the_server_refuses(
    make_wrapper: MakeWrapper, told: list[Wait]
) -> None:
    pool = make_wrapper(NAME="no_such_database").pool
    assert pool is not None
    with pytest.raises(psycopg.OperationalError):
        pool.borrow()
    (wait,) = told
    assert wait.holder is None
    assert isinstance(wait.error, psycopg.OperationalError)


def test_whatever_is_told_fails_the_borrower_has_its_connection(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(wait: Wait) -> None:
        raise LookupError("nobody listens")

    monkeypatch.setattr(waits, "on_wait", fail)
    pool = pool_of(make_wrapper)
    assert pool.statistics().returns == 1
    assert "could not report a wait for a connection" in caplog.text
