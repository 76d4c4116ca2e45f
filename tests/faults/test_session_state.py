"""What one borrower does to its session doesn't reach the next."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import InterfaceError
from django.db.backends.signals import connection_created

from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def wrapper(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    return make_wrapper(pool={"max_size": 1})


@pytest.fixture
def role(wrapper: DatabaseWrapper) -> Iterator[str]:
    fetch(wrapper, "SELECT 1")
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE ROLE borrowed_role")
    yield "borrowed_role"
    with wrapper.cursor() as cursor:
        cursor.execute("DROP ROLE borrowed_role")


def statistics(wrapper: DatabaseWrapper) -> Any:
    assert wrapper.pool is not None
    return wrapper.pool.statistics()


def execute(wrapper: DatabaseWrapper, sql: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)


# What is done to the session, and how the next borrower looks whether it is as new.
STATE = {
    "SET": ("SET work_mem = '5MB'", "SHOW work_mem"),
    "SET with a comment": ("/* by me */ -- and\n  set work_mem = '5MB'", "SHOW work_mem"),
    "SET behind another": ("SELECT 1; SET work_mem = '5MB'", "SHOW work_mem"),
    "SET search_path": ("SET search_path = pg_catalog", "SHOW search_path"),
    "SET TIME ZONE": ("SET TIME ZONE 'Asia/Tokyo'", "SHOW TimeZone"),
    "SET ROLE": ("SET ROLE pg_monitor", "SELECT current_user"),
    "SET SESSION AUTHORIZATION": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user"),
    "SET SESSION CHARACTERISTICS": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only",
    ),
    "set_config": ("SELECT set_config('work_mem', '5MB', false)", "SHOW work_mem"),
    "temporary table": ("CREATE TEMP TABLE left_over (n int)", "SELECT to_regclass('left_over')"),
    "SELECT INTO TEMP": ("SELECT 1 AS n INTO TEMP left_over", "SELECT to_regclass('left_over')"),
    "advisory lock": (
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "tried advisory lock": (
        "SELECT pg_try_advisory_lock_shared(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "LISTEN": ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()"),
    "PREPARE": ("PREPARE plan AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"),
    "held cursor": (
        "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'held'",
    ),
    "seed": ("SELECT setseed(0.5)", "SELECT 1"),
    "DO": ("DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$", "SHOW work_mem"),
    "a function, by what it reports": ("SELECT sneaky()", "SHOW application_name"),
    "a default that calls one": ("INSERT INTO sneaks DEFAULT VALUES", "SHOW application_name"),
}


@pytest.mark.parametrize("name", STATE)
def test_state_is_gone(wrapper: DatabaseWrapper, name: str) -> None:
    do, look = STATE[name]
    execute(
        wrapper,
        # One after the other: other tests do it at the same time.
        "SELECT pg_advisory_xact_lock(815);"
        "CREATE OR REPLACE FUNCTION sneaky() RETURNS void LANGUAGE plpgsql AS "
        "'BEGIN SET application_name = sneaky; END';"
        "CREATE TABLE IF NOT EXISTS sneaks (n text DEFAULT sneaky()::text)",
    )
    new, pid = fetch(wrapper, look), backend_pid(wrapper)
    resets = statistics(wrapper).resets
    execute(wrapper, do)
    wrapper.close()
    assert fetch(wrapper, look) == new
    assert backend_pid(wrapper) == pid, "it was reset, not replaced"
    assert statistics(wrapper).resets == resets + 1


def test_sequences(wrapper: DatabaseWrapper) -> None:
    execute(wrapper, "CREATE SEQUENCE IF NOT EXISTS counted")
    assert fetch(wrapper, "SELECT nextval('counted')")
    wrapper.close()
    with pytest.raises(Exception, match="not yet defined in this session"):
        fetch(wrapper, "SELECT currval('counted')")


def test_notifications_for_the_last_borrower_do_not_reach_the_next(
    wrapper: DatabaseWrapper,
) -> None:
    execute(wrapper, "LISTEN news")
    execute(wrapper, "NOTIFY news, 'old'")
    wrapper.close()
    wrapper.ensure_connection()
    assert list(wrapper.connection.notifies(timeout=0)) == []


@pytest.mark.parametrize("leave", ["open", "failed", "autocommit off"])
def test_transactions(wrapper: DatabaseWrapper, leave: str) -> None:
    pid = backend_pid(wrapper)
    if leave == "autocommit off":
        wrapper.set_autocommit(False)
        fetch(wrapper, "SELECT 1")
    else:
        execute(wrapper, "BEGIN")
        if leave == "failed":
            with pytest.raises(Exception, match="division by zero"):
                execute(wrapper, "SELECT 1/0")
    wrapper.close()
    assert wrapper.get_autocommit()
    assert backend_pid(wrapper) == pid
    assert not fetch(wrapper, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL")


def test_what_psycopg_is_asked_directly_counts_too(wrapper: DatabaseWrapper) -> None:
    new = fetch(wrapper, "SHOW work_mem")
    wrapper.ensure_connection()
    wrapper.connection.execute("SET work_mem = '5MB'")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == new


def test_neither_request_makes_a_round_trip_for_it(wrapper: DatabaseWrapper) -> None:
    """The borrower returns although the server can't answer: the reset is somebody else's."""
    pool = wrapper.pool
    assert pool is not None
    execute(wrapper, "SET work_mem = '5MB'")
    resetting = threading.Event()
    go_on = threading.Event()
    apply = pool._reset.apply

    def gated(connection: Any, use: Any) -> bool:
        resetting.set()
        go_on.wait(5)
        return apply(connection, use)

    pool._reset.apply = gated  # type: ignore[method-assign]
    wrapper.close()  # would hang here
    assert resetting.wait(5)
    assert statistics(wrapper).in_use == 0
    go_on.set()
    assert fetch(wrapper, "SHOW work_mem") != "5MB"


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_rows_that_were_streamed_do_not_disturb_the_next_borrowers_pipeline(
    make_wrapper: MakeWrapper, return_at: str
) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "return_at": return_at})
    with wrapper.cursor() as cursor:
        assert len(list(cursor.stream("SELECT generate_series(1, 20)"))) == 20
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.executemany("SELECT %s", [[1], [2]])


def test_ordinary_traffic_causes_no_reset(wrapper: DatabaseWrapper) -> None:
    execute(wrapper, "CREATE TABLE IF NOT EXISTS orders (id serial, set_by text)")
    for statement in (
        "INSERT INTO orders (set_by) VALUES ('SET')",
        "UPDATE orders SET set_by = 'x' WHERE id = 1",
        "SELECT id FROM orders",
        "DELETE FROM orders",
        "SAVEPOINT s",
        "SET LOCAL work_mem = '5MB'",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT pg_advisory_xact_lock(1)",
    ):
        execute(wrapper, "BEGIN")
        execute(wrapper, statement)
        execute(wrapper, "COMMIT")
        wrapper.close()
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5000)")
    cursor.fetchmany(10)
    cursor.close()
    wrapper.close()
    assert fetch(wrapper, "SELECT 1") == 1
    assert statistics(wrapper).resets == 0


def test_an_abandoned_server_side_cursor_is_closed(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5000)")
    cursor.fetchmany(10)
    wrapper.close()
    execute(wrapper, "BEGIN")
    assert fetch(wrapper, "SELECT count(*) FROM pg_cursors WHERE is_holdable") == 0
    # Sooner or later it is closed, as by the generator of an `.iterator()` that is collected:
    # that must not reach the next borrower, whose transaction it would break.
    cursor.close()
    assert fetch(wrapper, "SELECT 1") == 1
    execute(wrapper, "COMMIT")


def test_a_cursor_that_outlives_its_borrow_cannot_disturb_the_next(
    wrapper: DatabaseWrapper,
) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    named = wrapper.chunked_cursor()
    named.execute("SELECT generate_series(1, 5000)")
    wrapper.close()
    execute(wrapper, "BEGIN")
    with pytest.raises(InterfaceError, match="returned to its pool"):
        cursor.execute("ROLLBACK")
    with pytest.raises(InterfaceError, match="returned to its pool"):
        named.fetchmany(10)
    cursor.close()
    execute(wrapper, "COMMIT")


def test_what_django_configured_stays(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(
        pool={"max_size": 1}, TIME_ZONE="Asia/Tokyo", OPTIONS={"assume_role": "pg_monitor"}
    )
    wrapper.settings_dict["OPTIONS"]["pool"] = {"max_size": 1}
    for statement in ("SET TIME ZONE 'UTC'", "RESET ROLE", "SET work_mem = '5MB'"):
        execute(wrapper, statement)
        wrapper.close()
        assert fetch(wrapper, "SHOW TimeZone") == "Asia/Tokyo"
        assert fetch(wrapper, "SELECT current_user") == "pg_monitor"
        assert fetch(wrapper, "SHOW work_mem") != "5MB"


def test_what_configure_and_receivers_set_stays(make_wrapper: MakeWrapper) -> None:
    def configure(connection: Any) -> None:
        connection.execute("SET statement_timeout = '77s'")

    def receiver(connection: Any, **kwargs: Any) -> None:
        execute(connection, "SET lock_timeout = '66s'")

    wrapper = make_wrapper(pool={"max_size": 1, "configure": configure})
    connection_created.connect(receiver)
    try:
        for _ in range(3):
            assert fetch(wrapper, "SHOW statement_timeout") == "77s"
            assert fetch(wrapper, "SHOW lock_timeout") == "66s"
            wrapper.close()
        assert statistics(wrapper).resets == 0
        fetch(wrapper, "SHOW lock_timeout")
        execute(wrapper, "SET statement_timeout = 0; SET lock_timeout = 0")
        wrapper.close()
        assert fetch(wrapper, "SHOW statement_timeout") == "77s"
        assert fetch(wrapper, "SHOW lock_timeout") == "66s"
    finally:
        connection_created.disconnect(receiver)


def test_a_session_that_cannot_be_reset_is_discarded(
    wrapper: DatabaseWrapper, make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    pid = backend_pid(wrapper)
    execute(wrapper, "SET work_mem = '5MB'")
    fetch(make_wrapper(), "SELECT pg_terminate_backend(%s)", [pid])
    wrapper.close()
    assert backend_pid(wrapper) != pid
    assert "can't be reset" in caplog.text


def test_always_resets_each_time(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "reset": "always"})
    for expected in range(3):
        pid = hold(wrapper)
        assert statistics(wrapper).resets == expected
        wrapper.close()
        assert hold(wrapper) == pid


def test_never_only_rolls_back(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "reset": "never"})
    execute(wrapper, "SET work_mem = '5MB'")
    execute(wrapper, "BEGIN")
    execute(wrapper, "CREATE TABLE left_open (n int)")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == "5MB"
    assert fetch(wrapper, "SELECT to_regclass('left_open')") is None


def test_a_callable_resets_as_it_likes(make_wrapper: MakeWrapper) -> None:
    def reset(connection: Any) -> None:
        connection.execute("RESET work_mem")

    wrapper = make_wrapper(pool={"max_size": 1, "reset": reset})
    new = fetch(wrapper, "SHOW work_mem")
    execute(wrapper, "SET work_mem = '5MB'")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == new


def test_tenants_never_see_each_others_rows(make_wrapper: MakeWrapper) -> None:
    """Eight threads on two connections switch search_path or role for each request."""
    admin = make_wrapper()
    tenants = [f"tenant_{n}" for n in range(4)]
    for tenant in tenants:
        execute(
            admin,
            f"DROP SCHEMA IF EXISTS {tenant} CASCADE; CREATE SCHEMA {tenant}; "
            f"CREATE TABLE {tenant}.owner AS SELECT '{tenant}'::text AS name; "
            f"DROP ROLE IF EXISTS {tenant}; CREATE ROLE {tenant}; "
            f"GRANT USAGE ON SCHEMA {tenant} TO {tenant}; "
            f"GRANT SELECT ON {tenant}.owner TO {tenant}",
        )

    def work(number: int) -> int:
        wrapper = make_wrapper(pool={"max_size": 2}, alias="tenants")
        rng = random.Random(number)
        wrong = 0
        for _ in range(250):
            tenant = rng.choice(tenants)
            kind = rng.randrange(3)
            if kind == 0:
                execute(wrapper, f"SET search_path = {tenant}")
                wrong += fetch(wrapper, "SELECT name FROM owner") != tenant
            elif kind == 1:
                execute(wrapper, f"SET ROLE {tenant}")
                wrong += fetch(wrapper, "SELECT current_user") != tenant
                wrong += fetch(wrapper, f"SELECT name FROM {tenant}.owner") != tenant
            else:  # switches nothing, and must see nobody
                wrong += fetch(wrapper, "SELECT to_regclass('owner')") is not None
                wrong += fetch(wrapper, "SELECT current_user") in tenants
            wrapper.close()
        return wrong

    try:
        with ThreadPoolExecutor(8) as executor:
            assert sum(executor.map(work, range(8))) == 0
        pool = make_wrapper(pool={"max_size": 2}, alias="tenants").pool
        assert pool is not None
        wait_until(lambda: pool.statistics().in_use == 0)
        assert pool.statistics().connects == 2
        assert pool.statistics().resets > 1000
    finally:
        for tenant in tenants:
            execute(admin, f"DROP SCHEMA {tenant} CASCADE; DROP ROLE {tenant}")


def test_a_reset_of_the_sites_own_pins_nothing_later(make_wrapper: MakeWrapper) -> None:
    def reset(connection: Any) -> None:
        connection.execute("DISCARD ALL")

    wrapper = make_wrapper(pool={"max_size": 1, "reset": reset})
    for _ in range(3):
        assert fetch(wrapper, "SELECT 1") == 1  # outside of requests: it goes back at once
        assert wrapper.connection is None
    assert statistics(wrapper).pinned == 0


def test_what_pins_is_of_this_borrow(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "reset": "never"})
    execute(wrapper, "SET work_mem = '5MB'")
    assert wrapper._lease is not None
    assert wrapper._lease.use.reason == "SET"
    wrapper.close()
    execute(wrapper, "LISTEN news")
    assert wrapper._lease.use.reason == "LISTEN"
