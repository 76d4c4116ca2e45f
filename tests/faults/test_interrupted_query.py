"""Queries whose borrower is interrupted, for example by a task's time limit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from django_pooled_pg.base import DatabaseWrapper
from tests.conftest import MakeWrapper
from tests.support.queries import connect
from tests.support.waiting import wait_until

QUERY = "SELECT pg_sleep(60), 'interrupted'"


class TimeLimitExceeded(Exception):
    """As Celery's and RQ's: not what psycopg takes for Ctrl-C."""


@pytest.fixture
def time_limit() -> Iterator[None]:
    """SIGUSR1 raises TimeLimitExceeded."""

    def exceed(*args: Any) -> None:
        raise TimeLimitExceeded

    before = signal.signal(signal.SIGUSR1, exceed)
    yield
    signal.signal(signal.SIGUSR1, before)


def running(observer: psycopg.Connection[Any]) -> list[Any]:
    sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = %s AND state = 'active'"
    return observer.execute(sql, [QUERY]).fetchall()


def interrupt(wrapper: DatabaseWrapper, observer: psycopg.Connection[Any]) -> None:
    """Raise TimeLimitExceeded while the query of this thread runs."""
    main = threading.get_ident()

    def exceed() -> None:
        wait_until(lambda: running(observer), within=30)
        signal.pthread_kill(main, signal.SIGUSR1)

    limit = threading.Thread(target=exceed)
    limit.start()
    with pytest.raises(TimeLimitExceeded), wrapper.cursor() as cursor:
        cursor.execute(QUERY)
    limit.join()


@pytest.fixture
def observer(database: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    with connect(database) as connection:
        yield connection


@pytest.mark.parametrize("in_atomic", [False, True])
def test_the_server_does_not_go_on_with_it(
    make_wrapper: MakeWrapper,
    observer: psycopg.Connection[Any],
    time_limit: None,
    caplog: pytest.LogCaptureFixture,
    in_atomic: bool,
) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    assert wrapper.pool is not None
    wrapper.ensure_connection()
    if in_atomic:
        wrapper.set_autocommit(False)
    interrupt(wrapper, observer)
    wrapper.close()
    wait_until(lambda: not running(observer), within=30)

    with wrapper.cursor() as cursor:  # there is one in its place
        cursor.execute("SELECT 1")
    wrapper.close()
    assert "can't be reset: it was interrupted in a query" in caplog.text
    statistics = wrapper.pool.statistics()
    assert (statistics.size, statistics.in_use, statistics.connects) == (1, 0, 2)
