"""What keeps a connection: state, and code that asked for it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import transaction

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import (
    MakeKnown,
    execute,
    held,
    in_thread,
    request,
    statistics,
)
from tests.support.queries import backend_pid, fetch

PINS = {
    "SET": "SET statement_timeout = '77s'",
    "SET search_path": "SET search_path = pg_catalog",
    "set_config": "SELECT set_config('work_mem', '5MB', false)",
    "advisory lock": "SELECT pg_advisory_lock(4711)",
    "temporary table": "CREATE TEMP TABLE left_over (n int)",
    "LISTEN": "LISTEN news",
    "PREPARE": "PREPARE plan AS SELECT 1",
    "held cursor": "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
    "sequence": "SELECT nextval('pins')",
    "open transaction": "BEGIN",
}


@pytest.fixture
def pins(wrapper: DatabaseWrapper) -> Iterator[None]:
    execute(wrapper, "CREATE SEQUENCE IF NOT EXISTS pins")
    yield
    wrapper.close()
    execute(wrapper, "DROP SEQUENCE pins")


@pytest.mark.parametrize("name", PINS)
@pytest.mark.usefixtures("pins")
def test_state_keeps_it_until_close_and_counts_once(wrapper: DatabaseWrapper, name: str) -> None:
    for leases in 1, 2:
        pid = backend_pid(wrapper)
        assert held(wrapper) == 0
        execute(wrapper, PINS[name])
        for _ in range(3):
            assert backend_pid(wrapper) == pid
            assert held(wrapper) == 1
        assert statistics(wrapper).pinned == leases
        wrapper.close()
        assert held(wrapper) == 0
    # And now it may go back early again.
    backend_pid(wrapper)
    assert held(wrapper) == 0


@pytest.mark.parametrize("name", [name for name in PINS if name != "open transaction"])
@pytest.mark.usefixtures("pins")
def test_state_that_a_transaction_leaves_keeps_it(wrapper: DatabaseWrapper, name: str) -> None:
    with transaction.atomic(using=wrapper.alias):
        execute(wrapper, PINS[name])
        pid = backend_pid(wrapper)
    assert held(wrapper) == 1
    assert backend_pid(wrapper) == pid
    assert statistics(wrapper).pinned == 1
    wrapper.close()
    assert held(wrapper) == 0


def test_state_is_there_for_the_rest_of_the_request(
    make_known: MakeKnown,
) -> None:
    wrapper = make_known(return_at="transaction")
    with request():
        execute(wrapper, "SET statement_timeout = '77s'")
        with transaction.atomic(using=wrapper.alias):
            assert fetch(wrapper, "SHOW statement_timeout") == "77s"
        assert fetch(wrapper, "SHOW statement_timeout") == "77s"
    assert held(wrapper) == 0
    assert fetch(wrapper, "SHOW statement_timeout") == "0"


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL work_mem = '5MB'",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT pg_advisory_xact_lock(4711)",
        "CREATE TABLE IF NOT EXISTS unpinned (n int); DROP TABLE unpinned",
    ],
)
def test_what_ends_with_the_transaction_does_not_pin(wrapper: DatabaseWrapper, sql: str) -> None:
    with transaction.atomic(using=wrapper.alias):
        execute(wrapper, sql)
    assert held(wrapper) == 0
    assert statistics(wrapper).pinned == 0


def test_psycopgs_own_attributes_keep_it(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as cursor:
        cursor.connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with transaction.atomic(using=wrapper.alias):
        assert fetch(wrapper, "SHOW transaction_isolation") == "serializable"
    wrapper.close()
    with transaction.atomic(using=wrapper.alias):
        assert fetch(wrapper, "SHOW transaction_isolation") == "read committed"


def test_ensure_connection_keeps_it_until_close(wrapper: DatabaseWrapper) -> None:
    wrapper.ensure_connection()
    connection = wrapper.connection
    backend_pid(wrapper)
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
    assert held(wrapper) == 1
    assert wrapper.connection is connection
    assert connection.execute("SELECT 42").fetchone() == (42,)
    assert held(wrapper) == 1
    wrapper.close()
    assert held(wrapper) == 0
    backend_pid(wrapper)
    assert held(wrapper) == 0


def test_ensure_connection_inside_a_transaction_keeps_it_after(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        wrapper.ensure_connection()
        connection = wrapper.connection
    assert held(wrapper) == 1
    assert connection.execute("SELECT 42").fetchone() == (42,)
    wrapper.close()


def test_ensure_connection_keeps_it_to_the_end_of_the_request(
    make_known: MakeKnown,
) -> None:
    wrapper = make_known(return_at="transaction")
    with request():
        wrapper.ensure_connection()
        backend_pid(wrapper)
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_shared_between_threads_it_stays(wrapper: DatabaseWrapper) -> None:
    """As a `LiveServerTestCase` does it: another thread may be about to use it."""
    wrapper.inc_thread_sharing()
    pid = backend_pid(wrapper)
    assert held(wrapper) == 1
    in_thread(lambda: backend_pid(wrapper))
    assert held(wrapper) == 1
    wrapper.dec_thread_sharing()
    assert backend_pid(wrapper) == pid
    assert held(wrapper) == 0
