"""psycopg's objects that a borrower keeps are useless to it later; those it left open are ended."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from django.core.signals import request_finished, request_started
from django.db import DatabaseError

from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import backend_pid, fetch
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]
Raw = psycopg.Connection[Any]

RETURNED = "returned to its pool"


@pytest.fixture(params=["request", "transaction"])
def wrapper(request: pytest.FixtureRequest, make_wrapper: MakeWrapper) -> Iterator[DatabaseWrapper]:
    """One in a request, with a pool of one connection."""
    request_started.send(sender=None)
    wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5, "return_at": request.param})
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(816); CREATE TABLE IF NOT EXISTS kept (n int)")
        cursor.execute("TRUNCATE kept")
    wrapper.close()
    yield wrapper
    request_finished.send(sender=None)


def raw(wrapper: DatabaseWrapper) -> Raw:
    """Return psycopg's connection, as code gets at it."""
    wrapper.ensure_connection()
    connection: Raw = wrapper.connection
    return connection


def work(wrapper: DatabaseWrapper, in_between: Callable[[], object] = lambda: None) -> None:
    """What the next borrower does, with its own result: a transaction, rows, counts."""
    wrapper.set_autocommit(False)
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO kept VALUES (1)")
        in_between()
        cursor.execute("UPDATE kept SET n = 2")
        assert cursor.rowcount == 1
    wrapper.commit()
    wrapper.set_autocommit(True)
    assert fetch(wrapper, "SELECT count(*) FROM kept WHERE n = 2") == 1
    wrapper.close()


def suspended(connection: Raw) -> Iterator[None]:
    with connection.transaction():
        yield


def test_a_transaction_left_open(wrapper: DatabaseWrapper) -> None:
    raw(wrapper).transaction().__enter__()
    wrapper.close()
    work(wrapper)


def test_a_suspended_generator_that_ends_later(wrapper: DatabaseWrapper) -> None:
    generator = suspended(raw(wrapper))
    next(generator)
    wrapper.close()

    def end() -> None:
        with pytest.raises(psycopg.InterfaceError, match=RETURNED):
            next(generator)

    work(wrapper, end)


def test_a_pipeline_left_open(wrapper: DatabaseWrapper) -> None:
    pipeline = raw(wrapper).pipeline()
    pipeline.__enter__()
    wrapper.close()
    work(wrapper)
    with pytest.raises((psycopg.InterfaceError, AttributeError)):
        pipeline.__exit__(None, None, None)


class Interrupt(BaseException):
    """As a task queue's time limit."""


def in_pipeline(connection: Raw) -> None:
    with connection.pipeline():
        connection.execute("SELECT 1").fetchone()


def in_nested_pipeline(connection: Raw) -> None:
    with connection.pipeline():
        with connection.pipeline():
            connection.execute("SELECT 1").fetchone()
        connection.execute("SELECT 1").fetchone()


def in_many(connection: Raw) -> None:
    connection.cursor().executemany("SELECT %s", [[1], [2]], returning=True)


@pytest.mark.parametrize("leave", [in_pipeline, in_nested_pipeline, in_many])
def test_a_pipeline_interrupted_before_its_sync(
    wrapper: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Raw], None]
) -> None:
    """Without a Sync, the server is in a transaction of which libpq doesn't know."""
    end = psycopg.Pipeline._exit_gen

    def interrupt(self: psycopg.Pipeline) -> Any:
        if self.level > 1:
            return end(self)
        raise Interrupt

    connection = raw(wrapper)
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Pipeline, "_exit_gen", interrupt)
        with pytest.raises(Interrupt):
            leave(connection)
    wrapper.close()
    connection = raw(wrapper)
    connection.execute("SELECT 1")
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_pipeline_that_ends_well_costs_no_reset(wrapper: DatabaseWrapper) -> None:
    connection = raw(wrapper)
    with connection.pipeline():
        connection.execute("SELECT 1").fetchone()
    assert wrapper._lease is not None
    assert not wrapper._lease.pool.would_reset(wrapper._lease)


def test_notifications_waited_for_by_nobody(wrapper: DatabaseWrapper) -> None:
    """They hold psycopg's lock: no worker may wait for it."""
    for _ in range(4):
        connection = raw(wrapper)
        connection.execute("LISTEN kept")
        connection.execute("NOTIFY kept")
        notifies = connection.notifies()
        next(notifies)
        wrapper.close()
        work(wrapper)
        assert fetch(wrapper, "SELECT count(*) FROM pg_listening_channels()") == 0
        wrapper.close()
        notifies.close()
        with wrapper.cursor() as cursor:
            cursor.execute("TRUNCATE kept")
        wrapper.close()


def test_a_stream_left_open(wrapper: DatabaseWrapper) -> None:
    with closing(raw(wrapper).cursor()) as cursor:
        rows = cursor.stream("SELECT generate_series(1, 100000)")
        next(rows)
        wrapper.close()
        work(wrapper)
        rows.close()
    assert fetch(wrapper, "SELECT 1") == 1


OPEN: dict[str, Callable[[Raw], Any]] = {
    "transaction": lambda connection: connection.transaction().__enter__,
    "pipeline": lambda connection: connection.pipeline().__enter__,
    "transaction of a generator": lambda connection: suspended(connection).__next__,
    "notifies": lambda connection: connection.notifies(timeout=0).__next__,
    "stream": lambda connection: connection.cursor().stream("SELECT 1").__next__,
    "copy": lambda connection: connection.cursor().copy("COPY kept TO STDOUT").__enter__,
}


@pytest.mark.parametrize("kind", OPEN)
def test_what_is_collected_after_the_return_ends_in_silence(
    wrapper: DatabaseWrapper, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python prints what a generator raises that nobody calls: nobody could catch it."""
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    with wrapper.cursor() as cursor:
        cursor.execute("LISTEN kept")
        cursor.execute("NOTIFY kept")
        enter = OPEN[kind](raw(wrapper))
        enter()
    wrapper.close()
    del enter
    gc.collect()
    assert printed == []
    work(wrapper)


USES: dict[str, Callable[[Raw], object]] = {
    "execute": lambda connection: connection.execute("ROLLBACK"),
    "cursor": lambda connection: connection.cursor(),
    "commit": lambda connection: connection.commit(),
    "rollback": lambda connection: connection.rollback(),
    "transaction": lambda connection: connection.transaction().__enter__(),
    "pipeline": lambda connection: connection.pipeline().__enter__(),
    "notifies": lambda connection: next(connection.notifies(timeout=0)),
    "a cursor of its own": lambda connection: psycopg.RawCursor(connection).execute("ROLLBACK"),
    "an attribute": lambda connection: setattr(connection, "autocommit", False),
    "another attribute": lambda connection: setattr(connection, "row_factory", None),
    "libpq's connection": lambda connection: connection.pgconn.exec_(b"ROLLBACK"),
    "its socket": lambda connection: connection.fileno(),
}


@pytest.mark.parametrize("use", USES)
def test_a_raw_connection_that_was_kept(wrapper: DatabaseWrapper, use: str) -> None:
    connection = raw(wrapper)
    wrapper.close()

    def use_it() -> None:
        with pytest.raises(psycopg.Error, match=f"{RETURNED}|connection is closed"):
            USES[use](connection)

    work(wrapper, use_it)
    assert connection.closed
    connection.close()
    connection.cancel()
    assert "BAD" in repr(connection)


@pytest.mark.parametrize("kind", [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor])
def test_a_cursor_that_was_kept(wrapper: DatabaseWrapper, kind: type[Any]) -> None:
    cursor = kind(raw(wrapper))
    cursor.execute("SELECT 1")
    wrapper.close()

    def use_it() -> None:
        with pytest.raises(psycopg.InterfaceError, match=RETURNED):
            cursor.execute("ROLLBACK")

    work(wrapper, use_it)
    assert cursor.fetchone() == (1,)  # of what it had


def with_other_factory(connection: Raw) -> Any:
    connection.cursor_factory = psycopg.ClientCursor
    return connection.cursor()


def with_a_function(connection: Raw) -> Any:
    connection.cursor_factory = lambda *args, **kwargs: psycopg.ClientCursor(*args, **kwargs)  # type: ignore[assignment]
    return connection.cursor()


CURSORS: dict[str, Callable[[Raw], Any]] = {
    "Cursor": psycopg.Cursor,
    "RawCursor": psycopg.RawCursor,
    "ClientCursor": psycopg.ClientCursor,
    "ServerCursor's connection": lambda connection: connection.cursor("named").connection.cursor(),
    "of a factory": with_other_factory,
    "of a function": with_a_function,
    "of a cursor's class": lambda connection: type(connection.cursor())(connection),
    "of a cursor's connection": lambda connection: psycopg.Cursor(connection.cursor().connection),
}
CHANGES = {
    "SET": ("SET work_mem = '5MB'", "SHOW work_mem"),
    "lock": (
        "SELECT pg_advisory_lock(4712)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "LISTEN": ("LISTEN kept", "SELECT count(*) FROM pg_listening_channels()"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", CURSORS)
def test_a_cursor_that_nobody_noted(wrapper: DatabaseWrapper, kind: str, change: str) -> None:
    do, look = CHANGES[change]
    new = fetch(wrapper, look)
    wrapper.close()
    CURSORS[kind](raw(wrapper)).execute(do)
    wrapper.close()
    assert fetch(wrapper, look) == new


@pytest.mark.parametrize("change", CHANGES)
def test_a_factory_of_configure(make_wrapper: MakeWrapper, change: str) -> None:
    def configure(connection: Raw) -> None:
        connection.cursor_factory = psycopg.RawCursor

    do, look = CHANGES[change]
    wrapper = make_wrapper(pool={"max_size": 1, "configure": configure})
    new = fetch(wrapper, look)
    wrapper.close()
    assert isinstance(raw(wrapper).cursor(), psycopg.RawCursor)
    raw(wrapper).execute(do)
    wrapper.close()
    assert fetch(wrapper, look) == new


@pytest.mark.parametrize("change", CHANGES)
def test_libpqs_connection(wrapper: DatabaseWrapper, change: str) -> None:
    do, look = CHANGES[change]
    new = fetch(wrapper, look)
    kept = raw(wrapper).pgconn
    kept.exec_(do.encode())
    wrapper.close()
    assert fetch(wrapper, look) == new
    with pytest.raises(psycopg.OperationalError):
        kept.exec_(do.encode())


def test_attributes_of_psycopgs_connection(wrapper: DatabaseWrapper) -> None:
    connection, notices = raw(wrapper), []
    connection.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
    connection.add_notice_handler(notices.append)
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.prepare_threshold = 0
    pid = backend_pid_of(connection)
    wrapper.close()
    assert backend_pid(wrapper) == pid, "nothing to ask the server for"
    with wrapper.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'new'; END $$")
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("read committed",)
    assert notices == []
    assert raw(wrapper).prepare_threshold is None


def backend_pid_of(connection: Raw) -> int:
    return connection.info.backend_pid


def test_many_threads_that_keep_whatever_they_had(make_wrapper: MakeWrapper) -> None:
    """Each row that was committed is there, and no other: nobody reached another's session."""
    make_table = make_wrapper(alias="many", pool={"max_size": 2})
    with make_table.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS many (n int)")
        cursor.execute("TRUNCATE many")
    make_table.close()
    kept: list[Any] = []
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            wrapper = make_wrapper(alias="many", pool={"max_size": 2})
            for n in range(20):
                connection = raw(wrapper)
                kept.append(connection)
                with connection.transaction():
                    connection.execute("INSERT INTO many VALUES (%s)", [number * 100 + n])
                    for old in kept[:]:
                        if old is not connection and old.closed:
                            with pytest.raises(psycopg.Error, match=RETURNED):
                                old.execute("ROLLBACK")
                wrapper.close()
        except BaseException as ex:
            errors.append(ex)

    threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert fetch(make_table, "SELECT count(DISTINCT n) FROM many") == 80


def test_a_cursor_dropped_in_another_thread(make_wrapper: MakeWrapper) -> None:
    """Outside of requests: the thread that borrowed sleeps on, and holds nothing."""
    kept: list[Any] = []
    stop, borrowed = threading.Event(), threading.Event()
    wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5}, alias="dropped")

    def idle() -> None:
        wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5}, alias="dropped")
        cursor = wrapper.cursor()
        cursor.execute("SELECT 1")
        kept.append(cursor)
        del cursor
        borrowed.set()
        stop.wait(20)
        kept.append(fetch(wrapper, "SELECT 2"))

    thread = threading.Thread(target=idle)
    thread.start()
    assert borrowed.wait(5)
    pool = wrapper.pool
    assert pool is not None
    assert pool.statistics().in_use == 1
    kept.clear()
    gc.collect()
    wait_until(lambda: pool.statistics().in_use == 0)
    assert fetch(wrapper, "SELECT 1") == 1
    stop.set()
    thread.join()
    assert kept == [2]


def test_another_threads_wrapper_borrows_nothing(make_wrapper: MakeWrapper) -> None:
    """Django refuses it; until now the connection was borrowed first, and stayed."""
    wrapper = make_wrapper(pool={"max_size": 1})
    errors: list[BaseException] = []

    def use() -> None:
        try:
            fetch(wrapper, "SELECT 1")
        except DatabaseError as ex:
            errors.append(ex)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert "can only be used in that same thread" in str(errors[0])
    assert wrapper._lease is None


def test_a_transaction_of_a_thread_that_died_is_no_fork(make_wrapper: MakeWrapper) -> None:
    made: list[DatabaseWrapper] = []

    def die() -> None:
        made.append(make_wrapper(pool={"max_size": 1}))
        made[0].ensure_connection()
        made[0].in_atomic_block = True

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    (wrapper,) = made
    wait_until(lambda: wrapper.connection is None)
    with pytest.raises(DatabaseError, match="can only be used in that same thread"):
        fetch(wrapper, "SELECT 1")
    wrapper.in_atomic_block = False
