"""deadline(): a block's database work ends in time; also `seconds.py`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import re
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg_pool import PoolTimeout

from django_pooled_pg import DeadlineExceeded, deadline
from django_pooled_pg.pooling.work.work import current
from tests.conftest import MakeWrapper
from tests.soak.child import run_in_child
from tests.support.proxy import Proxy
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until

SLEEP = "SELECT pg_sleep(30)"


def run(wrapper: BaseDatabaseWrapper, sql: str = SLEEP) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)


def took(function: Callable[[], None]) -> float:
    began = monotonic()
    function()
    return monotonic() - began


def test_a_statement_that_runs_at_the_deadline_is_canceled(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    pid = backend_pid(wrapper)

    def exceed() -> None:
        with pytest.raises(DeadlineExceeded, match=r"of 0\.2 s") as raised, deadline(0.2):
            run(wrapper)
        assert isinstance(raised.value, OperationalError)
        assert isinstance(raised.value.__cause__, psycopg.errors.QueryCanceled)

    assert took(exceed) < 5
    assert backend_pid(wrapper) == pid  # the session is as good as before


def test_the_error_says_what_the_time_went_into(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()

    @deadline(0.6)
    def exceed() -> None:
        run(wrapper, "SELECT pg_sleep(0.2)")
        wait_until(lambda: not current().is_wanted())  # type: ignore[union-attr]  # there is
        run(wrapper)

    with pytest.raises(DeadlineExceeded) as raised:
        exceed()
    message = str(raised.value)
    assert message.startswith(f"Pool {wrapper.alias!r}: the deadline of 0.6 s has passed")
    found = re.search(
        r"Of (.+) s, (.+) s went into waiting for connections, (.+) s into statements, "
        r"and (.+) s into other things\.$",
        message,
    )
    assert found is not None
    total, waited, worked, others = map(float, found.groups())
    assert total >= 0.6
    assert worked >= 0.2
    assert waited + worked + others == pytest.approx(total, abs=0.03)


def test_the_error_counts_the_statement_that_was_canceled(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    with pytest.raises(DeadlineExceeded) as raised, deadline(0.4):
        run(wrapper)
    found = re.search(r"canceled after (.+) s\. .* (\S+) s into statements", str(raised.value))
    assert found is not None
    assert found[1] == found[2]


def test_after_the_deadline_each_further_statement_fails_at_once(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    with deadline(0.05):
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                run(wrapper)
            # It didn't even begin.
        with pytest.raises(DeadlineExceeded, match="no further statement is run"):
            run(wrapper, "SELECT 1")
    assert fetch(wrapper, "SELECT 1") == 1


def test_a_wait_for_a_connection_ends_at_the_deadline(make_wrapper: MakeWrapper) -> None:
    holder = make_wrapper(pool={"max_size": 1}, alias="full")
    hold(holder)
    waiter = make_wrapper(pool={"max_size": 1}, alias="full")

    def exceed() -> None:
        with pytest.raises(DeadlineExceeded, match="waits for a con") as raised, deadline(0.2):
            run(waiter, "SELECT 1")
        assert isinstance(raised.value.__cause__, PoolTimeout)

    assert took(exceed) < 5
    assert waiter.pool is not None
    assert waiter.pool.statistics().waiting == 0
    assert waiter.pool.statistics().exhausted == 0


def test_connections_that_do_not_answer_are_not_all_waited_for(
    make_wrapper: MakeWrapper, database: dict[str, Any]
) -> None:
    with Proxy(int(database["PORT"])) as proxy:
        pool = {"max_size": 3, "min_size": 3, "check": "query"}
        wrapper = make_wrapper(pool=pool, HOST="127.0.0.1", PORT=str(proxy.port))
        assert wrapper.pool is not None
        wrapper.pool.open(wait=True)
        proxy.freeze()

        def exceed() -> None:
            with pytest.raises(DeadlineExceeded) as raised, deadline(0.2):
                run(wrapper, "SELECT 1")
            assert isinstance(raised.value.__cause__, PoolTimeout)

        assert took(exceed) < 3.8


def test_a_wait_at_a_paused_pool_ends_at_the_deadline(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    assert wrapper.pool is not None
    wrapper.pool.pause()
    try:
        with pytest.raises(DeadlineExceeded), deadline(0.1):
            run(wrapper, "SELECT 1")
    finally:
        wrapper.pool.resume()


def test_a_null_pool_keeps_deadlines_too(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"class": "null", "max_size": 1})
    with pytest.raises(DeadlineExceeded), deadline(0.2):
        run(wrapper)
    wrapper.close()
    hold(wrapper)
    other = make_wrapper(pool={"class": "null", "max_size": 1}, alias=wrapper.alias)
    with pytest.raises(DeadlineExceeded), deadline(0.1):
        run(other)


def test_of_nested_deadlines_the_nearer_one_counts(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    with deadline(20):
        with pytest.raises(DeadlineExceeded, match=r"deadline of 0\.1 s"), deadline(0.1):
            run(wrapper)
        assert fetch(wrapper, "SELECT 1") == 1
    nearer = pytest.raises(DeadlineExceeded, match=r"deadline of 0\.1 s")
    with nearer, deadline(0.1), deadline(20):
        run(wrapper)


def test_a_transaction_is_rolled_back_as_with_any_error(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    run(wrapper, "CREATE TEMP TABLE late (n int)")
    hold(wrapper)

    @deadline(0.3)
    def insert() -> None:
        with _atomic(wrapper):
            run(wrapper, "INSERT INTO late VALUES (1)")
            with pytest.raises(DeadlineExceeded):
                insert_more()
            # The savepoint was rolled back though the deadline had passed.
            assert not wrapper.needs_rollback
            run(wrapper)

    def insert_more() -> None:
        with _atomic(wrapper):
            run(wrapper, "INSERT INTO late VALUES (2)")
            run(wrapper)

    with pytest.raises(DeadlineExceeded):
        insert()
    assert fetch(wrapper, "SELECT count(*) FROM late") == 0


def test_a_transaction_whose_statements_are_done_is_committed(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    run(wrapper, "CREATE TEMP TABLE in_time (n int)")
    hold(wrapper)
    with deadline(0.2), _atomic(wrapper), _atomic(wrapper):
        run(wrapper, "INSERT INTO in_time VALUES (1)")
        wait_until(lambda: not current().is_wanted())  # type: ignore[union-attr]  # there is
    assert fetch(wrapper, "SELECT count(*) FROM in_time") == 1


def _atomic(wrapper: BaseDatabaseWrapper) -> Any:
    from django.db import connections

    connections[wrapper.alias] = wrapper
    return transaction.atomic(using=wrapper.alias)


def test_each_statement_of_a_pipeline_that_is_canceled_says_why(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection
    with deadline(0.2), raw.pipeline():
        raw.execute(SLEEP)
        last = raw.execute("SELECT 1")
        wait_until(lambda: not current().is_wanted())  # type: ignore[union-attr]  # there is
        with pytest.raises(DeadlineExceeded):
            last.fetchone()
        with pytest.raises(DeadlineExceeded, match="no further statement"):
            raw.execute("SELECT 1")
    assert raw.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "ends", ["COMMIT", "rollback", " ROLLBACK TO SAVEPOINT s", "END", "ABORT", "RELEASE s"]
)
def test_what_ends_a_transaction_is_not_refused(make_wrapper: MakeWrapper, ends: str) -> None:
    wrapper = make_wrapper()
    with wrapper.cursor() as cursor, deadline(0.2):
        cursor.execute("BEGIN; SAVEPOINT s")
        wait_until(lambda: not current().is_wanted())  # type: ignore[union-attr]  # there is
        cursor.execute(ends)


@pytest.mark.parametrize("ends", ["tpc_commit", "tpc_rollback"])
def test_what_ends_a_two_phase_transaction_is_not_refused(
    make_wrapper: MakeWrapper, ends: str
) -> None:
    wrapper = make_wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection
    raw.autocommit = False
    with deadline(0.2):
        raw.tpc_begin("late")
        raw.execute("SELECT 1")
        wait_until(lambda: not current().is_wanted())  # type: ignore[union-attr]  # there is
        getattr(raw, ends)()


def test_a_cursor_that_was_opened_before_the_block_is_limited_too(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    with wrapper.cursor() as cursor, pytest.raises(DeadlineExceeded), deadline(0.1):
        cursor.execute(SLEEP)


@pytest.mark.parametrize(
    "way",
    [
        "executemany",
        "stream",
        "copy",
        "server",
        "rows of a server cursor",
        "raw",
        "own cursor",
        "pipeline",
        "rows of a pipeline",
    ],
)
def test_each_way_to_run_a_statement_is_limited(make_wrapper: MakeWrapper, way: str) -> None:
    wrapper = make_wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection

    @deadline(0.2)
    def run_it() -> None:
        if way == "executemany":
            with wrapper.cursor() as cursor:
                cursor.executemany("SELECT pg_sleep(%s)", [[30], [30]])
        elif way == "stream":
            with wrapper.cursor() as cursor:
                list(cursor.cursor.stream(SLEEP))
        elif way == "copy":
            with wrapper.cursor() as cursor, cursor.copy(f"COPY ({SLEEP}) TO STDOUT") as copy:
                list(copy)
        elif way == "server":
            with _atomic(wrapper), wrapper.chunked_cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.01) FROM generate_series(1, 10000)")
                cursor.fetchall()
        elif way == "rows of a server cursor":
            with _atomic(wrapper), wrapper.chunked_cursor() as cursor:
                cursor.cursor.itersize = 1000
                cursor.execute("SELECT pg_sleep(0.01) FROM generate_series(1, 1000)")
                list(cursor)
        elif way == "pipeline":
            with raw.pipeline():
                raw.execute(SLEEP)
        elif way == "rows of a pipeline":
            with raw.cursor() as cursor, raw.pipeline():
                cursor.execute(SLEEP)
                cursor.fetchone()
        elif way == "raw":
            raw.execute(SLEEP)
        else:
            psycopg.RawCursor(raw).execute(SLEEP)

    with pytest.raises(DeadlineExceeded):
        run_it()
    wrapper.close()
    assert fetch(wrapper, "SELECT 1") == 1


def test_no_set_is_sent_and_nothing_is_pinned_or_reset(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"return_at": "transaction"})
    pid = backend_pid(wrapper)
    with deadline(10):
        assert backend_pid(wrapper) == pid
        assert wrapper.connection is None
    with pytest.raises(DeadlineExceeded), deadline(0.1):
        run(wrapper)
    assert wrapper.pool is not None
    assert backend_pid(wrapper) == pid
    assert (wrapper.pool.statistics().pinned, wrapper.pool.statistics().resets) == (0, 0)


def test_it_decorates_functions_and_coroutine_functions(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()

    @deadline(0.1)
    def report() -> None:
        """Build it."""
        run(wrapper)

    @deadline(0.1)
    async def report_async() -> None:
        await sync_to_async(run)(wrapper)

    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            report()
        with pytest.raises(DeadlineExceeded):
            asyncio.run(report_async())
    # Not a coroutine function, but it returns what is awaited.
    with pytest.raises(DeadlineExceeded):
        asyncio.run(deadline(0.1)(sync_to_async(run))(wrapper))
    assert report.__doc__ == "Build it."
    assert inspect.iscoroutinefunction(report_async)


def test_in_async_code_it_limits_what_threads_do_for_it(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()

    async def work() -> None:
        async with deadline(0.2):
            await sync_to_async(run, thread_sensitive=False)(wrapper)

    with pytest.raises(DeadlineExceeded):
        asyncio.run(work())


def test_it_goes_on_in_a_forked_child(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()

    def child() -> None:
        with pytest.raises(DeadlineExceeded):
            run(wrapper)

    with deadline(0.5):
        assert run_in_child(child) == 0


def test_tasks_do_not_share_their_deadlines(make_wrapper: MakeWrapper) -> None:
    one, other = make_wrapper(), make_wrapper()
    one.inc_thread_sharing()
    other.inc_thread_sharing()

    async def limited() -> str:
        try:
            async with deadline(0.2):
                await sync_to_async(run, thread_sensitive=False)(one)
        except DeadlineExceeded:
            return "exceeded"
        return "done"

    async def unlimited() -> str:
        await sync_to_async(run, thread_sensitive=False)(other, "SELECT pg_sleep(0.5)")
        return "done"

    async def both() -> list[str]:
        return list(await asyncio.gather(limited(), unlimited()))

    assert asyncio.run(both()) == ["exceeded", "done"]


def limited_rows(seconds: float) -> Iterator[int]:
    with deadline(seconds):
        yield 1
        yield 2


def test_blocks_need_not_end_in_the_order_in_which_they_began() -> None:
    with deadline(100):
        rows = limited_rows(50)
        next(rows)
    inner = current()
    assert inner is not None
    assert inner._seconds == 50
    rows.close()
    assert current() is None


def test_a_block_that_is_collected_elsewhere_ends_no_other() -> None:
    rows = limited_rows(50)
    contextvars.copy_context().run(next, rows)
    with deadline(100):
        del rows
        left = current()
        assert left is not None
        assert left._seconds == 100
    assert current() is None


def test_one_deadline_limits_many_blocks() -> None:
    limit = deadline(100)
    with limit:
        outer = current()
        with limit:
            assert current() is not outer
        assert current() is outer
    assert current() is None


def test_a_thread_that_code_starts_itself_is_not_limited(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()
    with deadline(0.05):
        thread = threading.Thread(target=run, args=(wrapper, "SELECT pg_sleep(0.2)"))
        thread.start()
        thread.join()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, -math.inf, 1e12])
def test_impossible_seconds_are_refused_in_words(seconds: float) -> None:
    with pytest.raises(ValueError, match="a number of seconds, more than 0 and at most 31536000"):
        deadline(seconds)


@pytest.mark.parametrize("seconds", ["1", None, True, [1]])
def test_what_is_no_number_is_refused_in_words(seconds: Any) -> None:
    with pytest.raises(TypeError, match=r"deadline\(\) needs a number of seconds"):
        deadline(seconds)


def test_wrong_uses_of_the_decorator_are_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"write @deadline\(2\.5\)"):
        deadline(lambda: None)  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(TypeError, match="can't limit a generator"):

        @deadline(1)
        def rows() -> Any:
            yield 1

    with pytest.raises(TypeError, match="decorates functions"):
        deadline(1)(classmethod(lambda cls: None))  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(TypeError, match="decorates functions"):

        @deadline(1)
        class Report:
            pass
