from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.session import liveness
from tests.support.queries import fetch
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def terminated(
    connection: psycopg.Connection[Any], make_wrapper: MakeWrapper
) -> psycopg.Connection[Any]:
    fetch(make_wrapper(), "SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    wait_until(lambda: not liveness.seems_connected(connection))
    return connection


def test_a_quiet_session_is_alive(connection: psycopg.Connection[Any]) -> None:
    poll = liveness.poll_of(connection)
    assert not poll(0)
    assert liveness.is_alive(connection, poll)
    assert liveness.seems_connected(connection)
    assert liveness.answers(connection)


def test_a_terminated_session_is_dead(terminated: psycopg.Connection[Any]) -> None:
    poll = liveness.poll_of(terminated)
    assert poll(0)
    assert not liveness.is_alive(terminated, poll)
    assert not liveness.answers(terminated)


def test_a_closed_connection_is_dead(connection: psycopg.Connection[Any]) -> None:
    connection.close()
    assert not liveness.seems_connected(connection)
    assert not liveness.answers(connection)


def test_news_do_not_mean_death(
    connection: psycopg.Connection[Any], make_wrapper: MakeWrapper
) -> None:
    connection.execute("LISTEN news")
    fetch(make_wrapper(), "SELECT pg_notify('news', 'hello')")
    poll = liveness.poll_of(connection)
    wait_until(lambda: poll(0))
    assert liveness.is_alive(connection, poll)
    assert not poll(0)


def test_exchange_runs_several_statements(connection: psycopg.Connection[Any]) -> None:
    one, two = liveness.exchange(connection, b"SELECT 1; SELECT 2")
    assert (one.get_value(0, 0), two.get_value(0, 0)) == (b"1", b"2")
    assert connection.execute("SELECT 3").fetchone() == (3,)


def test_exchange_sends_and_gets_much(connection: psycopg.Connection[Any]) -> None:
    size = 8_000_000
    sql = b"SELECT length('" + b"x" * size + b"'), repeat('y', %d)" % size
    (result,) = liveness.exchange(connection, sql, within=30)
    assert result.get_value(0, 0) == b"%d" % size
    assert len(result.get_value(0, 1) or b"") == size


def test_exchange_raises_the_servers_error(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        liveness.exchange(connection, b"SELECT 1; SELECT 1/0")


def test_exchange_is_bounded_in_time(connection: psycopg.Connection[Any]) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        liveness.exchange(connection, b"SELECT pg_sleep(60)", within=0.1)
    assert time.monotonic() - started < 30
    connection.cancel()  # or the server would go on, for a minute
    connection.close()
