from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg
import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.session import liveness
from django_pooled_pg.pooling.session.check import Check
from django_pooled_pg.pooling.session.session import session_of
from tests.support.queries import fetch
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


def check_of(**options: Any) -> Check:
    config = PoolConfig.from_settings("default", {"OPTIONS": {"pool": options}})
    assert config is not None
    return Check(config)


def is_fit(check: Check, connection: psycopg.Connection[Any]) -> bool:
    return check.is_fit(connection, session_of(connection), monotonic())


def round_trips(connection: psycopg.Connection[Any], action: Callable[[], object]) -> bool:
    """Tell whether the action asked the server: by the time of its last query."""
    with psycopg.connect(connection.info.dsn, password=connection.info.password) as observer:
        sql = "SELECT query_start FROM pg_stat_activity WHERE pid = %s"
        pid = [connection.info.backend_pid]
        observer.autocommit = True
        before = observer.execute(sql, pid).fetchone()
        action()
        return bool(observer.execute(sql, pid).fetchone() != before)


def terminate(connection: psycopg.Connection[Any], make_wrapper: MakeWrapper) -> None:
    fetch(make_wrapper(), "SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    wait_until(lambda: not liveness.seems_connected(connection))


@pytest.fixture
def connection(make_wrapper: MakeWrapper) -> psycopg.Connection[Any]:
    """One that is lent, as its pool has it."""
    wrapper = make_wrapper()
    wrapper.ensure_connection()
    assert wrapper._lease is not None
    return wrapper._lease.connection


@pytest.mark.parametrize("check", ["auto", "query"])
def test_a_dead_connection_is_not_fit(
    connection: psycopg.Connection[Any], make_wrapper: MakeWrapper, check: str
) -> None:
    assert is_fit(check_of(check=check), connection)
    terminate(connection, make_wrapper)
    assert not is_fit(check_of(check=check), connection)


def test_never_looks(connection: psycopg.Connection[Any], make_wrapper: MakeWrapper) -> None:
    terminate(connection, make_wrapper)
    assert is_fit(check_of(check="never"), connection)


@pytest.mark.parametrize("check", ["auto", "query", "never"])
def test_a_closed_connection_is_never_fit(connection: psycopg.Connection[Any], check: str) -> None:
    connection.close()
    assert not is_fit(check_of(check=check), connection)


def test_auto_asks_only_what_was_idle_long(connection: psycopg.Connection[Any]) -> None:
    check = check_of(check_idle=30)
    assert not round_trips(connection, lambda: is_fit(check, connection))
    session_of(connection).idle_since -= 31
    assert round_trips(connection, lambda: is_fit(check, connection))
    assert round_trips(connection, lambda: is_fit(check_of(check="query"), connection))


def test_a_callable_decides(connection: psycopg.Connection[Any]) -> None:
    def refuse(connection: psycopg.Connection[Any]) -> None:
        raise ValueError("not today")

    def leave_open(connection: psycopg.Connection[Any]) -> None:
        connection.execute("BEGIN")

    assert is_fit(check_of(check=lambda connection: None), connection)
    assert not is_fit(check_of(check=refuse), connection)
    assert not is_fit(check_of(check=leave_open), connection)


def test_unwanted_in_a_sweep(
    connection: psycopg.Connection[Any], make_wrapper: MakeWrapper
) -> None:
    check = check_of()
    assert not check.is_unwanted(connection)
    session_of(connection).idle_since -= 31
    assert check.is_unwanted(connection)
    session_of(connection).idle_since += 31
    terminate(connection, make_wrapper)
    assert check.is_unwanted(connection)


def test_suspicion_asks_each_connection_once(connection: psycopg.Connection[Any]) -> None:
    check = check_of(check="never")
    assert check.suspect(session_of(connection))
    assert round_trips(connection, lambda: is_fit(check, connection))
    assert not round_trips(connection, lambda: is_fit(check, connection))
    check.suspect(session_of(connection))
    connection.execute("SET default_transaction_read_only = on")
    assert not is_fit(check, connection)


def test_a_session_that_never_took_writes_raises_suspicion_but_now_and_then(
    connection: psycopg.Connection[Any],
) -> None:
    check = check_of()
    session = session_of(connection)
    session.read_only_from_start = True
    assert check.suspect(session)
    assert not check.suspect(session)
    session.read_only_from_start = False
    assert check.suspect(session)
