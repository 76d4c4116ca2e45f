"""aio.connection(): a task borrows a connection of the pool that threads borrow from.

Also `pooling/tasks/borrow.py`, `pooling/tasks/borrower.py`, `pooling/tasks/claim.py`, and
`pooling/tasks/running.py`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, transaction
from django.db.backends.signals import connection_created

from django_pooled_pg import DeadlineExceeded, PoolExhausted, aio, connection_borrowed, deadline
from django_pooled_pg.pooling import waits
from django_pooled_pg.request_record import recording
from tests.aio.conftest import MakeAlias, fetch, idle, pid_of, pool_of
from tests.soak.child import DONE, run_in_child
from tests.support.queries import backend_pid, connect
from tests.support.waiting import wait_until


def test_tasks_and_threads_use_the_same_session(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})

    async def use() -> int:
        async with aio.connection(wrapper.alias) as connection:
            assert isinstance(connection, psycopg.AsyncConnection)
            return await pid_of(connection)

    pid = asyncio.run(use())
    for _ in range(3):
        assert backend_pid(wrapper) == pid
        wrapper.close()
        assert asyncio.run(use()) == pid
    assert pool_of(wrapper).statistics().connects == 1


def test_a_block_is_in_autocommit_mode_or_atomic(make_alias: MakeAlias) -> None:
    wrapper = make_alias()

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            await connection.execute("CREATE TABLE aio_atomic (n int)")
        with suppress(ZeroDivisionError):
            async with aio.connection(wrapper.alias, atomic=True) as connection:
                await connection.execute("INSERT INTO aio_atomic VALUES (1)")
                raise ZeroDivisionError
        async with aio.connection(wrapper.alias, atomic=True) as connection:
            await connection.execute("INSERT INTO aio_atomic VALUES (2)")
        async with aio.connection(wrapper.alias) as connection:
            assert await fetch(connection, "SELECT n FROM aio_atomic") == [(2,)]
            await connection.execute("DROP TABLE aio_atomic")

    asyncio.run(use())
    idle(pool_of(wrapper))


def test_a_block_that_cant_be_committed_says_so(make_alias: MakeAlias, database: Any) -> None:
    wrapper = make_alias()

    async def fail() -> None:
        async with aio.connection(wrapper.alias, atomic=True) as connection:
            with suppress(psycopg.errors.DivisionByZero):
                await connection.execute("SELECT 1 / 0")

    async def lose() -> None:
        async with aio.connection(wrapper.alias, atomic=True) as connection:
            pid = await pid_of(connection)
            with connect(database) as killer:
                killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            with suppress(psycopg.OperationalError):
                await connection.execute("SELECT 1")

    with pytest.raises(psycopg.errors.InFailedSqlTransaction, match="was rolled back"):
        asyncio.run(fail())
    with pytest.raises(psycopg.OperationalError, match="transaction is lost"):
        asyncio.run(lose())
    idle(pool_of(wrapper))


def test_blocks_share_no_transaction(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 2})

    async def use() -> None:
        one, two = aio.connection(wrapper.alias, atomic=True), aio.connection(wrapper.alias)
        async with one as outer, two as inner:
            assert await pid_of(outer) != await pid_of(inner)
            with pytest.raises(RuntimeError, match="one connection at a time"):
                await one.__aenter__()

    asyncio.run(use())
    idle(pool_of(wrapper))


def test_one_object_lends_one_connection_at_a_time(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 2})

    async def use() -> None:
        shared = aio.connection(wrapper.alias)

        async def one() -> int:
            async with shared as connection:
                return await pid_of(connection)

        first, second = await asyncio.gather(one(), one(), return_exceptions=True)
        assert isinstance(first, int)
        assert isinstance(second, RuntimeError)
        assert await one() == first

    asyncio.run(use())
    idle(pool_of(wrapper))


def test_who_comes_first_is_served_first(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    pool = pool_of(wrapper)
    came: list[str] = []

    def in_thread(name: str) -> None:
        lease = pool.borrow()
        came.append(name)
        pool.give_back(lease)

    async def in_task(name: str) -> None:
        async with aio.connection(wrapper.alias):
            came.append(name)

    async def use() -> None:
        threads, tasks = [], []
        async with aio.connection(wrapper.alias):
            for number in range(6):
                if number % 2:
                    tasks.append(asyncio.create_task(in_task(str(number))))
                else:
                    threads.append(threading.Thread(target=in_thread, args=[str(number)]))
                    threads[-1].start()
                while pool.statistics().waiting != number + 1:
                    await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        for thread in threads:
            thread.join()

    asyncio.run(use())
    assert came == list("012345")
    idle(pool)


def test_the_loop_goes_on_while_a_task_waits(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1, "timeout": 0.5})
    pool = pool_of(wrapper)
    lease = pool.borrow()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    async def use() -> None:
        turning = asyncio.create_task(turn())
        with pytest.raises(PoolExhausted, match=r"1 of 1 \(max_size\) connections are in use"):
            async with aio.connection(wrapper.alias):
                pass
        turning.cancel()

    asyncio.run(use())
    assert turns > 10
    pool.give_back(lease)
    idle(pool)


async def hold_for_long(wrapper: Any) -> None:
    async with aio.connection(wrapper.alias):
        await asyncio.sleep(100)  # here


def test_the_error_says_which_task_has_it_and_where(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1, "timeout": 0.2})

    async def use() -> None:
        holding = asyncio.create_task(hold_for_long(wrapper), name="importer")
        while not pool_of(wrapper).statistics().in_use:
            await asyncio.sleep(0.001)
        with pytest.raises(PoolExhausted) as raised:
            async with aio.connection(wrapper.alias):
                pass
        text = str(raised.value)
        assert "Held longest by: task 'importer' " in text
        line = hold_for_long.__code__.co_firstlineno + 2
        assert f"now at {__file__}:{line} in hold_for_long" in text
        holding.cancel()

    asyncio.run(use())
    idle(pool_of(wrapper))


def test_a_dead_session_costs_a_task_nothing(make_alias: MakeAlias) -> None:
    wrapper = make_alias()

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            pid = await pid_of(connection)
        with psycopg.connect(**_params(wrapper)) as killer:
            killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        async with aio.connection(wrapper.alias) as connection:
            assert await pid_of(connection) != pid

    asyncio.run(use())
    assert pool_of(wrapper).statistics().dead == 1
    idle(pool_of(wrapper))


def _params(wrapper: Any) -> Any:
    params = wrapper.get_connection_params()
    return {name: params[name] for name in ("dbname", "host", "port", "user") if name in params}


@pytest.mark.parametrize(
    "pool",
    [{"check": "query"}, {"check": "never"}, {"class": "null"}, {"class": "null", "max_size": 1}],
    ids=str,
)
def test_other_ways_to_pool(make_alias: MakeAlias, pool: dict[str, Any]) -> None:
    wrapper = make_alias(pool)

    async def one() -> int:
        async with aio.connection(wrapper.alias) as connection:
            return await pid_of(connection)

    async def use() -> None:
        assert all(await asyncio.gather(*(one() for _ in range(20))))

    asyncio.run(use())
    wait_until(lambda: pool_of(wrapper).statistics().in_use == 0)


def test_the_servers_own_error_comes_at_once(make_alias: MakeAlias) -> None:
    wrapper = make_alias(NAME="there_is_none")

    async def use() -> None:
        with pytest.raises(OperationalError, match='"there_is_none" does not exist'):
            async with aio.connection(wrapper.alias):
                pass

    asyncio.run(use())


def test_a_pool_is_needed_and_a_task(make_alias: MakeAlias) -> None:
    alias = make_alias(False).alias

    async def use() -> None:
        with pytest.raises(ImproperlyConfigured, match=f"the alias '{alias}' has none"):
            async with aio.connection(alias):
                pass

    asyncio.run(use())
    with pytest.raises(RuntimeError):
        aio.connection(alias).__aenter__().send(None)


def test_each_loop_of_a_process_borrows(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 2})

    async def use() -> None:
        for _ in range(20):
            async with aio.connection(wrapper.alias) as connection:
                await pid_of(connection)

    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    idle(pool_of(wrapper))


def test_a_task_whose_loop_is_closed_waits_no_more(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    pool = pool_of(wrapper)
    lease = pool.borrow()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it is destroyed while it waits
    task = loop.create_task(aio.connection(wrapper.alias).__aenter__())
    while not pool.statistics().waiting:
        loop.run_until_complete(asyncio.sleep(0.001))
    del task
    gc.collect()
    assert pool.statistics().waiting == 1
    loop.close()
    gc.collect()
    assert pool.statistics().waiting == 0
    pool.give_back(lease)
    idle(pool)


def test_a_loop_that_is_closed_takes_nobodys_turn(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    pool = pool_of(wrapper)
    lease = pool.borrow()
    loop = asyncio.new_event_loop()
    task = loop.create_task(aio.connection(wrapper.alias).__aenter__())
    loop.run_until_complete(asyncio.sleep(0))
    while not pool.statistics().waiting:
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    pool.give_back(lease)
    pool.give_back(pool.borrow())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()
    idle(pool)


async def leave_statement(wrapper: Any) -> None:
    async with aio.connection(wrapper.alias) as connection:
        asyncio.ensure_future(connection.execute("SELECT pg_sleep(10)")).add_done_callback(id)
        await asyncio.Event().wait()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_is_collected_while_another_loop_runs_cancels_nobody(
    make_alias: MakeAlias,
) -> None:
    wrapper = make_alias({"max_size": 1})
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # tasks are destroyed
    task = loop.create_task(leave_statement(wrapper))
    loop.run_until_complete(asyncio.sleep(0.2))
    loop.close()
    del task, loop

    async def go_on() -> None:
        gc.collect()
        await asyncio.sleep(0.7)

    asyncio.run(go_on())
    idle(pool_of(wrapper))


async def sleep_in_statement(wrapper: Any) -> None:
    async with aio.connection(wrapper.alias) as connection:
        await connection.execute("SELECT pg_sleep(100)")


async def sleep_in_transaction(wrapper: Any) -> None:
    async with aio.connection(wrapper.alias, atomic=True) as connection:
        await connection.execute("SELECT 1")
        await asyncio.sleep(100)


# Without it, the pool closes the connection, and the server goes on with the statement.
CANCELS = pytest.mark.skipif(not psycopg.capabilities.has_cancel_safe(), reason="libpq before 17")


@pytest.mark.parametrize(
    "sleeps",
    [hold_for_long, pytest.param(sleep_in_statement, marks=CANCELS), sleep_in_transaction],
)
@pytest.mark.parametrize("collected", [True, False])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_whose_loop_is_closed_loses_nothing(
    make_alias: MakeAlias, sleeps: Any, collected: bool
) -> None:
    wrapper = make_alias({"max_size": 1})
    loop = asyncio.new_event_loop()
    task = loop.create_task(sleeps(wrapper))
    loop.run_until_complete(asyncio.sleep(0.2))
    assert pool_of(wrapper).statistics().in_use
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    kept = [] if collected else [task]
    del task, loop
    gc.collect()
    idle(pool_of(wrapper), within=5 if collected else 10)
    assert asyncio.run(hold_briefly(wrapper))
    kept.clear()
    gc.collect()
    idle(pool_of(wrapper))


def test_a_block_that_is_never_left_is_reclaimed(
    make_alias: MakeAlias, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = make_alias({"max_size": 1})
    asyncio.run(aio.connection(wrapper.alias).__aenter__())
    gc.collect()
    idle(pool_of(wrapper))
    assert "never returned. Borrow by async with" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_whose_loop_is_closed_while_receivers_are_told_loses_nothing(
    make_alias: MakeAlias,
) -> None:
    wrapper = make_alias({"max_size": 1})
    loop = asyncio.new_event_loop()
    told, go_on = threading.Event(), threading.Event()

    def on_borrowed(connection: Any, **kwargs: Any) -> None:
        if connection.alias == wrapper.alias and not told.is_set():
            told.set()
            assert go_on.wait(10)

    def let_go_on() -> None:
        """Let the thread's news come when this loop does nothing more."""
        go_on.set()
        wait_until(lambda: not any("errand" in thread.name for thread in threading.enumerate()))
        loop.stop()

    connection_borrowed.connect(on_borrowed)
    try:
        task = loop.create_task(hold_briefly(wrapper))
        while not told.is_set():
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.call_soon(let_go_on)
        loop.run_forever()
    finally:
        connection_borrowed.disconnect(on_borrowed)
    loop.close()
    idle(pool_of(wrapper), within=10)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()


def test_receivers_are_told(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    created, borrowed = [], []

    def on_created(connection: Any, **kwargs: Any) -> None:
        if connection.alias == wrapper.alias:
            created.append(threading.current_thread())
            with connection.cursor() as cursor:
                cursor.execute("SET app.created = 'yes'")

    def on_borrowed(connection: Any, **kwargs: Any) -> None:
        if connection.alias == wrapper.alias:
            borrowed.append(connection)
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('app.borrow', %s, false)", [str(len(borrowed))])

    async def use() -> list[Any]:
        async with aio.connection(wrapper.alias) as connection:
            sql = "SELECT current_setting('app.created'), current_setting('app.borrow', true)"
            return await fetch(connection, sql)

    connection_created.connect(on_created)
    try:
        assert asyncio.run(use()) == [("yes", None)]
        assert asyncio.run(use()) == [("yes", None)]
        connection_borrowed.connect(on_borrowed)
        try:
            assert asyncio.run(use()) == [("yes", "1")]
            assert asyncio.run(use()) == [("yes", "2")]
        finally:
            connection_borrowed.disconnect(on_borrowed)
    finally:
        connection_created.disconnect(on_created)
    assert threading.main_thread() not in created
    idle(pool_of(wrapper))


def test_a_receiver_that_closes_is_named(make_alias: MakeAlias) -> None:
    wrapper = make_alias()

    def on_borrowed(connection: Any, **kwargs: Any) -> None:
        connection.close()

    async def use() -> None:
        with pytest.raises(Exception, match="closes each connection that it is told of"):
            async with aio.connection(wrapper.alias):
                pass

    connection_borrowed.connect(on_borrowed)
    try:
        asyncio.run(use())
    finally:
        connection_borrowed.disconnect(on_borrowed)
    idle(pool_of(wrapper))


def test_a_record_has_what_tasks_borrow(make_alias: MakeAlias) -> None:
    wrapper = make_alias()

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            await connection.execute("SET statement_timeout = 1000")

    with recording() as record:
        asyncio.run(use())
    (borrow,) = record.borrows()
    assert (borrow.alias, borrow.error, borrow.changed_by) == (wrapper.alias, "", "SET")
    assert borrow.returned
    assert borrow.worked > 0


def test_a_forked_child_has_nothing_of_a_task(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            pid = await pid_of(connection)

            def in_child() -> None:
                with pytest.raises(psycopg.InterfaceError, match="returned to its pool"):
                    connection.cursor()
                assert backend_pid(wrapper) != pid

            assert run_in_child(in_child) == DONE
            assert await pid_of(connection) == pid

    asyncio.run(use())
    idle(pool_of(wrapper))


def test_a_task_that_waits_is_collected_in_a_forked_child(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    pool = pool_of(wrapper)
    lease = pool.borrow()
    locked, forked = threading.Event(), threading.Event()

    def hold_lock() -> None:
        with pool.ledger.lock:
            locked.set()
            forked.wait(20)

    loop = asyncio.new_event_loop()
    task = loop.create_task(hold_briefly(wrapper))
    while not pool.statistics().waiting:
        loop.run_until_complete(asyncio.sleep(0.001))
    thread = threading.Thread(target=hold_lock)
    thread.start()
    locked.wait()
    try:
        assert run_in_child(task.get_coro().close) == DONE
    finally:
        forked.set()
        thread.join()
    pool.give_back(lease)
    assert loop.run_until_complete(task)
    loop.close()
    idle(pool)


def test_parameters_are_bound_where_djangos_are(make_alias: MakeAlias) -> None:
    async def type_of(wrapper: Any) -> type:
        async with aio.connection(wrapper.alias) as connection:
            return type(connection.cursor())

    assert issubclass(asyncio.run(type_of(make_alias())), psycopg.AsyncClientCursor)
    on_server = make_alias(OPTIONS={"server_side_binding": True})
    assert not issubclass(asyncio.run(type_of(on_server)), psycopg.AsyncClientCursor)


def test_a_pool_that_is_paused_lets_tasks_wait(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"timeout": 5})
    pool = pool_of(wrapper)

    async def use() -> None:
        pool.pause()
        waiting = asyncio.create_task(hold_briefly(wrapper))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        pool.resume()
        await waiting

    asyncio.run(use())
    idle(pool)


def test_tasks_that_wait_for_resume_count_as_waiting(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"timeout": 5, "max_waiting": 2})
    pool = pool_of(wrapper)

    async def use() -> None:
        pool.pause()
        waiting = [asyncio.create_task(hold_briefly(wrapper)) for _ in range(2)]
        while pool.statistics().waiting < 2:
            await asyncio.sleep(0)
        with pytest.raises(PoolExhausted, match=r"paused, and 2 borrowers .* 2 borrowers wait\."):
            await hold_briefly(wrapper)
        waiting.pop().cancel()
        waiting.append(asyncio.create_task(hold_briefly(wrapper)))
        await asyncio.sleep(0.1)
        assert pool.statistics().waiting == 2
        pool.resume()
        await asyncio.gather(*waiting)

    asyncio.run(asyncio.wait_for(use(), 4))
    idle(pool)


async def hold_briefly(wrapper: Any) -> int:
    async with aio.connection(wrapper.alias) as connection:
        return await pid_of(connection)


def test_djangos_transactions_go_on_beside_it(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 2})
    with transaction.atomic(wrapper.alias):
        pid = backend_pid(wrapper)
        assert asyncio.run(hold_briefly(wrapper)) != pid
        assert backend_pid(wrapper) == pid
    idle(pool_of(wrapper))


def test_a_deadline_ends_the_wait_and_the_statement(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1, "timeout": 30})
    pool = pool_of(wrapper)

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            pid = await pid_of(connection)
            with pytest.raises(DeadlineExceeded, match="a statement was canceled"):
                async with deadline(0.2):
                    await connection.execute("SELECT pg_sleep(30)")
            assert await pid_of(connection) == pid
            with pytest.raises(DeadlineExceeded, match="no longer waits for a connection"):
                async with deadline(0.2), aio.connection(wrapper.alias):
                    pass
            async with deadline(0.05):
                await connection.execute("BEGIN")
                await asyncio.sleep(0.1)
                with pytest.raises(DeadlineExceeded, match="no further statement"):
                    await connection.execute("SELECT 1")
                await connection.execute("ROLLBACK")

    asyncio.run(use())
    assert pool.statistics().deadlines == 3
    idle(pool)


async def copy_in(connection: Any) -> None:
    async with connection.cursor().copy("COPY parts FROM STDIN") as copy:
        for _ in range(30):
            await copy.write_row(["x" * 100_000])
            await asyncio.sleep(0.01)


async def copy_in_little(connection: Any) -> None:
    async with connection.cursor().copy("COPY parts FROM STDIN") as copy:
        await copy.write_row(["x"])
        await asyncio.sleep(0.3)


async def copy_out(connection: Any) -> None:
    sql = f"COPY (SELECT repeat('x', 10000) FROM generate_series(1, {10**9})) TO STDOUT"
    async with connection.cursor().copy(sql) as copy:
        async for _ in copy:
            await asyncio.sleep(0.001)


async def stream(connection: Any) -> None:
    sql = f"SELECT repeat('x', 10000) FROM generate_series(1, {10**9})"
    async for _ in connection.cursor().stream(sql):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("parts", [copy_in, copy_in_little, copy_out, stream])
def test_a_deadline_ends_what_comes_in_parts(make_alias: MakeAlias, parts: Any) -> None:
    wrapper = make_alias({"max_size": 1})

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            pid = await pid_of(connection)
            await connection.execute("CREATE TEMP TABLE parts (t text)")
            with pytest.raises(DeadlineExceeded, match="a statement was canceled"):
                async with deadline(0.2):
                    await parts(connection)
            assert await fetch(connection, "SELECT count(*) FROM parts") == [(0,)]
            assert await pid_of(connection) == pid

    asyncio.run(asyncio.wait_for(use(), 10))
    idle(pool_of(wrapper))


def test_nothing_is_logged_where_all_is_well(
    make_alias: MakeAlias, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = make_alias()
    with caplog.at_level(logging.INFO, "django_pooled_pg"):
        asyncio.run(hold_briefly(wrapper))
    assert caplog.text == ""


def test_a_wait_is_reported_as_that_of_a_thread(
    make_alias: MakeAlias, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_alias({"max_size": 1, "timeout": 0.2})
    told: list[waits.Wait] = []
    monkeypatch.setattr(waits, "on_wait", told.append)

    async def use() -> None:
        async with aio.connection(wrapper.alias):
            with suppress(PoolExhausted):
                async with aio.connection(wrapper.alias):
                    pass

    asyncio.run(use())
    opening, waiting = told
    assert opening.error is opening.holder is None
    assert isinstance(waiting.error, PoolExhausted)
    assert waiting.holder is not None
    assert waiting.holder.thread.startswith("task ")
