"""When a connection goes back: with the request, or as soon as its transaction is over."""

from __future__ import annotations

import asyncio
import gc
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import IntegrityError, close_old_connections, connections, models, transaction
from django.test import RequestFactory, TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.statistics import PoolStatistics
from testproject.library.models import Author, Book
from tests.support.queries import backend_pid, fetch

MakeWrapper = Callable[..., DatabaseWrapper]


class Type(models.Model):
    """PostgreSQL's own: there are hundreds in each database."""

    oid = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "catalog"
        db_table = "pg_type"
        managed = False

    def __str__(self) -> str:
        return str(self.oid)


@contextmanager
def request() -> Iterator[None]:
    """What Django's handlers do around a request."""
    request_started.send(sender=None)
    try:
        yield
    finally:
        request_finished.send(sender=None)


@pytest.fixture
def make_known(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., DatabaseWrapper]]:
    """Make wrappers that are among this thread's `connections`."""
    known = []

    def make(**pool: Any) -> DatabaseWrapper:
        wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5, **pool})
        settings = {**wrapper.settings_dict, "ENGINE": "django_pooled_pg"}
        monkeypatch.setitem(connections.settings, wrapper.alias, settings)
        connections[wrapper.alias] = wrapper
        known.append(wrapper.alias)
        # An earlier test may have left a request open.
        request_finished.send(sender=None)
        return wrapper

    yield make
    for alias in known:
        del connections[alias]


@pytest.fixture(params=["outside a request", "inside, at transaction"])
def wrapper(
    request: pytest.FixtureRequest, make_known: Callable[..., DatabaseWrapper]
) -> Iterator[DatabaseWrapper]:
    """One whose connection goes back early: outside a request without being told to."""
    if request.param == "outside a request":
        yield make_known()
    else:
        request_started.send(sender=None)
        yield make_known(return_at="transaction")
        request_finished.send(sender=None)


def statistics(wrapper: DatabaseWrapper) -> PoolStatistics:
    assert wrapper.pool is not None
    return wrapper.pool.statistics()


def held(wrapper: DatabaseWrapper) -> int:
    return statistics(wrapper).in_use


def execute(wrapper: DatabaseWrapper, sql: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)


def fail() -> None:
    raise RuntimeError("no")


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# Requests


def test_inside_a_request_it_stays_to_the_end(make_known: Callable[..., DatabaseWrapper]) -> None:
    wrapper = make_known()
    with request():
        pid = backend_pid(wrapper)
        assert held(wrapper) == 1
        with transaction.atomic(using=wrapper.alias):
            assert backend_pid(wrapper) == pid
        assert held(wrapper) == 1
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_inside_a_request_at_transaction_it_goes_back_with_the_cursor(
    make_known: Callable[..., DatabaseWrapper],
) -> None:
    wrapper = make_known(return_at="transaction")
    with request():
        backend_pid(wrapper)
        assert held(wrapper) == 0
        backend_pid(wrapper)
    assert statistics(wrapper).borrows == 2


def test_outside_a_request_it_goes_back_with_the_cursor(
    make_known: Callable[..., DatabaseWrapper],
) -> None:
    wrapper = make_known()
    backend_pid(wrapper)
    assert held(wrapper) == 0
    assert wrapper.connection is None


def test_after_a_request_it_is_outside_again(make_known: Callable[..., DatabaseWrapper]) -> None:
    wrapper = make_known()
    with request():
        backend_pid(wrapper)
    backend_pid(wrapper)
    assert held(wrapper) == 0


def test_a_thread_that_a_request_starts_is_not_in_it(
    make_known: Callable[..., DatabaseWrapper], make_wrapper: MakeWrapper
) -> None:
    wrapper = make_known()
    seen: list[int] = []

    def work() -> None:
        of_thread = make_wrapper(pool=wrapper.settings_dict["OPTIONS"]["pool"], alias=wrapper.alias)
        backend_pid(of_thread)
        seen.append(held(of_thread))

    with request():
        in_thread(work)
    assert seen == [0]


def test_it_is_the_same_session_again(wrapper: DatabaseWrapper) -> None:
    assert len({backend_pid(wrapper) for _ in range(5)}) == 1
    assert statistics(wrapper).connects == 1
    assert statistics(wrapper).borrows == 5


# Transactions


def test_an_atomic_block_keeps_it_and_returns_it_at_its_end(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        assert held(wrapper) == 1
        pid = backend_pid(wrapper)
        assert held(wrapper) == 1
        assert backend_pid(wrapper) == pid
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_only_the_outermost_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        with transaction.atomic(using=wrapper.alias):
            backend_pid(wrapper)
        assert held(wrapper) == 1
        with transaction.atomic(using=wrapper.alias, savepoint=False):
            backend_pid(wrapper)
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_a_block_that_nobody_queried_in_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        pass
    assert held(wrapper) == 0


def test_a_block_that_ends_with_an_exception_returns_it(wrapper: DatabaseWrapper) -> None:
    @transaction.atomic(using=wrapper.alias)
    def work() -> None:
        backend_pid(wrapper)
        fail()

    with pytest.raises(RuntimeError, match="no"):
        work()
    assert held(wrapper) == 0


def test_an_error_of_the_database_in_a_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with (
        pytest.raises(Exception, match="division by zero"),
        transaction.atomic(using=wrapper.alias),
    ):
        execute(wrapper, "SELECT 1/0")
    assert held(wrapper) == 0
    assert backend_pid(wrapper)


def test_an_error_of_the_database_outside_a_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with pytest.raises(Exception, match="division by zero"):
        execute(wrapper, "SELECT 1/0")
    assert held(wrapper) == 0


def test_a_commit_that_fails_returns_it(wrapper: DatabaseWrapper) -> None:
    execute(wrapper, "DROP TABLE IF EXISTS once")
    execute(wrapper, "CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(IntegrityError), transaction.atomic(using=wrapper.alias):
        execute(wrapper, "INSERT INTO once VALUES (1), (1)")
    assert held(wrapper) == 0
    assert not wrapper.in_atomic_block
    assert fetch(wrapper, "SELECT count(*) FROM once") == 0
    execute(wrapper, "DROP TABLE once")


def test_a_block_that_is_set_to_roll_back_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
        wrapper.set_rollback(True)
    assert held(wrapper) == 0


def test_close_inside_a_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
        wrapper.close()
        assert held(wrapper) == 0
    assert held(wrapper) == 0
    with transaction.atomic(using=wrapper.alias):
        assert backend_pid(wrapper)
    assert held(wrapper) == 0


def test_autocommit_switched_off_keeps_it_until_it_is_on_again(wrapper: DatabaseWrapper) -> None:
    wrapper.set_autocommit(False)
    assert held(wrapper) == 1
    backend_pid(wrapper)
    wrapper.commit()
    assert held(wrapper) == 1
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
    assert held(wrapper) == 1
    wrapper.rollback()
    assert held(wrapper) == 1
    wrapper.set_autocommit(True)
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_transaction_begun_by_hand_keeps_it_until_its_end(wrapper: DatabaseWrapper) -> None:
    execute(wrapper, "BEGIN")
    assert held(wrapper) == 1
    pid = backend_pid(wrapper)
    assert backend_pid(wrapper) == pid
    assert held(wrapper) == 1
    execute(wrapper, "COMMIT")
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_test_case_keeps_its_connection(
    database: dict[str, Any], make_known: Callable[..., DatabaseWrapper]
) -> None:
    wrapper = make_known(return_at="transaction")
    pids, holds = [], []

    class Case(TestCase):
        databases = {wrapper.alias}

        def look(self) -> None:
            pids.append(backend_pid(wrapper))
            holds.append(held(wrapper))

        def test(self) -> None:
            self.look()
            with transaction.atomic(using=wrapper.alias, durable=True):
                self.look()
            request_started.send(sender=None)
            self.look()
            request_finished.send(sender=None)
            self.look()

    # As Django's test client does: a request inside a test doesn't end the test's transaction.
    for signal in request_started, request_finished:
        signal.disconnect(close_old_connections)
    try:
        result = unittest.TestResult()
        unittest.TestSuite([Case("test")]).run(result)
    finally:
        for signal in request_started, request_finished:
            signal.connect(close_old_connections)
    assert not result.errors
    assert not result.failures
    assert len(set(pids)) == 1
    assert set(holds) == {1}
    assert held(wrapper) == 0


# On commit


def test_hooks_see_it_returned(wrapper: DatabaseWrapper) -> None:
    seen: list[int] = []
    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
    assert seen == [0]


def test_hooks_may_query(wrapper: DatabaseWrapper) -> None:
    seen: list[Any] = []

    def query() -> None:
        seen.append(fetch(wrapper, "SELECT 42"))
        seen.append(held(wrapper))

    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(query, using=wrapper.alias)
        transaction.on_commit(query, using=wrapper.alias)
    assert seen == [42, 0, 42, 0]
    assert held(wrapper) == 0


def test_hooks_may_have_transactions_and_hooks(wrapper: DatabaseWrapper) -> None:
    seen: list[Any] = []

    def begin() -> None:
        with transaction.atomic(using=wrapper.alias, durable=True):
            transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
            seen.append(fetch(wrapper, "SELECT 42"))
            seen.append(held(wrapper))

    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(begin, using=wrapper.alias)
        transaction.on_commit(lambda: seen.append("last"), using=wrapper.alias)
    assert seen == [42, 1, 0, "last"]
    assert held(wrapper) == 0


def test_a_hook_that_fails_returns_it(wrapper: DatabaseWrapper) -> None:
    def query_and_fail() -> None:
        backend_pid(wrapper)
        fail()

    for hook in fail, query_and_fail:
        with (
            pytest.raises(RuntimeError, match="no"),
            transaction.atomic(using=wrapper.alias),
        ):
            transaction.on_commit(hook, using=wrapper.alias)
        assert held(wrapper) == 0
        assert not wrapper.in_atomic_block
    with transaction.atomic(using=wrapper.alias):
        assert backend_pid(wrapper)
    assert held(wrapper) == 0


def test_a_robust_hook_that_fails_returns_it(
    wrapper: DatabaseWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(fail, using=wrapper.alias, robust=True)
    assert "Error calling fail" in caplog.text
    assert held(wrapper) == 0


def test_hooks_of_a_commit_by_hand_see_it_returned(wrapper: DatabaseWrapper) -> None:
    seen: list[int] = []
    wrapper.set_autocommit(False)
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
        transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
    wrapper.commit()
    assert seen == []
    wrapper.set_autocommit(True)
    assert seen == [0]
    assert held(wrapper) == 0


def test_nothing_is_borrowed_to_know_that_there_is_no_transaction(
    wrapper: DatabaseWrapper,
) -> None:
    seen: list[int] = []
    assert wrapper.get_autocommit()
    transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
    transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias, robust=True)
    assert seen == [0, 0]
    assert statistics(wrapper).borrows == 0


# Pins

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
    make_known: Callable[..., DatabaseWrapper],
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
    make_known: Callable[..., DatabaseWrapper],
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


# Cursors


def test_a_cursor_that_is_open_keeps_it(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    assert held(wrapper) == 1
    cursor.execute("SELECT generate_series(1, 3)")
    backend_pid(wrapper)
    assert held(wrapper) == 1
    assert cursor.fetchall() == [(1,), (2,), (3,)]
    assert held(wrapper) == 1
    cursor.close()
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_stays_open_after_a_transaction_keeps_it(wrapper: DatabaseWrapper) -> None:
    before = wrapper.cursor()
    before.execute("SELECT 42")
    with transaction.atomic(using=wrapper.alias):
        inside = wrapper.cursor()
    assert held(wrapper) == 1
    inside.execute("SELECT 43")
    inside.close()
    assert held(wrapper) == 1
    assert before.fetchone() == (42,)
    before.close()
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_is_collected_when_a_transaction_begins_does_not_return_it(
    wrapper: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors = [wrapper.cursor()]
    switch = wrapper._set_autocommit

    def collect_and_switch(autocommit: bool) -> None:
        cursors.clear()
        switch(autocommit)

    monkeypatch.setattr(wrapper, "_set_autocommit", collect_and_switch)
    with transaction.atomic(using=wrapper.alias):
        assert backend_pid(wrapper)
        assert held(wrapper) == 1
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_the_last_of_several_cursors_returns_it(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as outer, wrapper.cursor() as inner:
        inner.execute("SELECT 1")
        inner.close()
        assert held(wrapper) == 1
        outer.execute("SELECT 1")
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_is_dropped_returns_it(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    del cursor
    assert held(wrapper) == 0
    wrapper.cursor().execute("SELECT 1")
    assert held(wrapper) == 0


def test_a_cursor_in_a_cycle_returns_it_when_it_is_collected(wrapper: DatabaseWrapper) -> None:
    cycle: list[Any] = [wrapper.cursor()]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert held(wrapper) == 1
        gc.collect()
        assert held(wrapper) == 0
    finally:
        gc.enable()
    assert backend_pid(wrapper)


def test_a_cursor_collected_in_the_midst_of_a_borrow_blocks_nothing(
    wrapper: DatabaseWrapper,
) -> None:
    """The garbage collector may run while its thread holds the locks of the same pool."""
    cycle: list[Any] = [wrapper.cursor()]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert wrapper.pool is not None
        assert wrapper.pool._ledger.backing is not None
        with wrapper.pool._ledger.lock, wrapper.pool._ledger.backing._lock:
            gc.collect()
        assert held(wrapper) == 0
    finally:
        gc.enable()


def test_a_cursor_that_another_thread_closes_does_not_return_it(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    in_thread(cursor.close)
    assert held(wrapper) == 1
    backend_pid(wrapper)
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_another_thread_drops_does_not_return_it(wrapper: DatabaseWrapper) -> None:
    cursors = [wrapper.cursor()]
    in_thread(cursors.clear)
    assert held(wrapper) == 1
    backend_pid(wrapper)
    assert held(wrapper) == 0


def test_a_cursor_that_outlives_a_close_has_no_part_in_the_next_borrow(
    wrapper: DatabaseWrapper,
) -> None:
    old = wrapper.cursor()
    wrapper.close()
    new = wrapper.cursor()
    old.close()
    assert held(wrapper) == 1
    new.execute("SELECT 1")
    new.close()
    assert held(wrapper) == 0


def test_reading_from_the_server_bit_by_bit_keeps_it_to_the_end(wrapper: DatabaseWrapper) -> None:
    types = Type.objects.using(wrapper.alias)
    rows = types.iterator(chunk_size=2)
    first = next(rows)
    assert held(wrapper) == 1
    assert {first, *rows} == set(types)
    assert held(wrapper) == 0


def test_reading_that_is_given_up_halfway_returns_it(wrapper: DatabaseWrapper) -> None:
    types = Type.objects.using(wrapper.alias)
    rows = types.iterator(chunk_size=2)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert held(wrapper) == 0
    for _ in types.iterator(chunk_size=2):
        break
    assert held(wrapper) == 0
    assert statistics(wrapper).pinned == 0


def test_reading_in_a_transaction_leaves_it_to_the_transaction(wrapper: DatabaseWrapper) -> None:
    types = Type.objects.using(wrapper.alias)
    with transaction.atomic(using=wrapper.alias):
        assert len(list(types.iterator(chunk_size=2))) == types.count()
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_a_server_side_cursor_keeps_it_until_closed(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5000)")
    assert len(cursor.fetchmany(10)) == 10
    backend_pid(wrapper)
    assert held(wrapper) == 1
    assert cursor.fetchone() == (11,)
    cursor.close()
    assert held(wrapper) == 0


def test_a_server_side_cursor_that_is_dropped_gives_it_back_at_the_latest_with_close(
    wrapper: DatabaseWrapper,
) -> None:
    """On the server it is open for good: nobody else may have that session before a reset."""
    pid = backend_pid(wrapper)
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5000)")
    del cursor
    assert held(wrapper) == 1
    wrapper.close()
    assert held(wrapper) == 0
    assert fetch(wrapper, "SELECT count(*) FROM pg_cursors WHERE is_holdable") == 0
    assert backend_pid(wrapper) == pid


# What else Django's cursors do


def test_a_debug_cursor_returns_it(wrapper: DatabaseWrapper) -> None:
    wrapper.force_debug_cursor = True
    backend_pid(wrapper)
    assert held(wrapper) == 0
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
    assert held(wrapper) == 0
    assert [query["sql"] for query in wrapper.queries] == [
        "SELECT pg_backend_pid()",
        "BEGIN",
        "SELECT pg_backend_pid()",
        "COMMIT",
    ]


def test_captured_queries_are_all_there(wrapper: DatabaseWrapper) -> None:
    """Capturing asks for a connection at its start, which thereby stays."""
    with CaptureQueriesContext(wrapper) as captured:
        backend_pid(wrapper)
        backend_pid(wrapper)
    assert len(captured) == 2
    wrapper.close()
    assert held(wrapper) == 0


def test_an_execute_wrapper_runs_while_it_is_held(wrapper: DatabaseWrapper) -> None:
    seen: list[Any] = []

    def look(run: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        assert context["connection"] is wrapper
        seen.append((sql, held(wrapper)))
        return run(sql, params, many, context)

    with wrapper.execute_wrapper(look):
        backend_pid(wrapper)
        assert held(wrapper) == 0
    backend_pid(wrapper)
    assert seen == [("SELECT pg_backend_pid()", 1)]


def test_a_query_inside_an_execute_wrapper_does_not_return_it(wrapper: DatabaseWrapper) -> None:
    pids: list[int] = []

    def explain(run: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        if not pids:
            pids.append(0)
            pids.append(backend_pid(wrapper))
            assert held(wrapper) == 1
        return run(sql, params, many, context)

    with wrapper.execute_wrapper(explain):
        assert backend_pid(wrapper) == pids[1]
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_copy_returns_it_with_the_cursor(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as cursor:
        with cursor.copy("COPY (SELECT generate_series(1, 3)) TO STDOUT") as copy:
            assert [bytes(data) for data in copy] == [b"1\n", b"2\n", b"3\n"]
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_temporary_connection_returns_it(wrapper: DatabaseWrapper) -> None:
    with wrapper.temporary_connection() as cursor:
        cursor.execute("SELECT 1")
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_the_end_of_a_request_with_nothing_held(wrapper: DatabaseWrapper) -> None:
    backend_pid(wrapper)
    wrapper.close_if_unusable_or_obsolete()
    wrapper.close()
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


# Threads, async code and streams


@pytest.fixture
def alias(make_known: Callable[..., DatabaseWrapper]) -> str:
    """An alias for which each thread gets a wrapper, with four connections for all of them."""
    return make_known(max_size=4, timeout=30).alias


def test_two_hundred_idle_threads_hold_nothing(alias: str) -> None:
    everybody = threading.Barrier(201)
    done = threading.Event()

    def work() -> int:
        pid = backend_pid(connections[alias])
        everybody.wait(60)
        done.wait(60)
        return pid

    with ThreadPoolExecutor(200) as executor:
        pids = [executor.submit(work) for _ in range(200)]
        try:
            everybody.wait(60)
            in_use = held(connections[alias])  # type: ignore[arg-type]
        finally:
            done.set()
        assert in_use == 0
        assert len({pid.result() for pid in pids}) <= 4


def test_sync_to_async_in_any_thread_leaves_nothing_lent(alias: str) -> None:
    def work() -> int:
        with transaction.atomic(using=alias):
            return backend_pid(connections[alias])

    async def main() -> set[int]:
        run = sync_to_async(work, thread_sensitive=False)
        pids = set(await asyncio.gather(*[run() for _ in range(20)]))
        # While the loop's threads are there: they don't give back by ending.
        assert held(connections[alias]) == 0  # type: ignore[arg-type]
        return pids

    wrapper = connections[alias]  # not to be looked up by each coroutine
    assert wrapper is connections[alias]
    assert len(asyncio.run(main())) <= 4


class RouterTo:
    """Sends all queries to one alias."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.alias

    db_for_write = db_for_read

    def allow_relation(self, a: Any, b: Any, **hints: Any) -> bool:
        return True


@pytest.mark.django_db  # for the tables
def test_a_stream_holds_nothing_before_and_after_its_query(
    make_known: Callable[..., DatabaseWrapper],
) -> None:
    wrapper = make_known(return_at="transaction")
    with override_settings(DATABASE_ROUTERS=[RouterTo(wrapper.alias)]):
        author = Author.objects.create(name="Ursula")
        try:
            Book.objects.bulk_create(
                Book(title=f"Volume {n}", author=author, year=1969) for n in range(300)
            )
            environ = RequestFactory().get("/stream/").environ
            response = WSGIHandler()(environ, lambda *args: None)
            assert held(wrapper) == 0
            lines = iter(response)
            assert next(lines) == b"Volume 0\tUrsula\n"
            assert held(wrapper) == 1
            assert len(list(lines)) == 299
            assert held(wrapper) == 0, "although the request has not ended"
            response.close()
            assert held(wrapper) == 0
        finally:
            Book.objects.filter(author=author).delete()
            author.delete()
