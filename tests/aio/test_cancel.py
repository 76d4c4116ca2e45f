"""A task may be canceled at any await, twice too: nothing of it is left, in the pool or the server."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.transaction import OutOfOrderTransactionNesting

from django_pooled_pg import aio, connection_borrowed, deadline
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.pool import Pool
from tests.aio.conftest import MakeAlias, fetch, idle, pid_of, pool_of
from tests.support.proxy import Proxy
from tests.support.queries import backend_pid, connect
from tests.support.waiting import wait_until

IN_SLEEP = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"


async def canceled(task: asyncio.Task[Any], times: int = 1) -> None:
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("atomic", [False, True])
def test_in_a_statement(make_alias: MakeAlias, database: Any, times: int, atomic: bool) -> None:
    wrapper = make_alias({"max_size": 1})
    pids = []

    async def sleep() -> None:
        async with aio.connection(wrapper.alias, atomic=atomic) as connection:
            pids.append(await pid_of(connection))
            await connection.execute("SELECT pg_sleep(100)")

    async def use() -> None:
        task = asyncio.create_task(sleep())
        with connect(database) as server:
            while not pids or server.execute(IN_SLEEP, pids).fetchone() != (1,):
                await asyncio.sleep(0.001)
            await canceled(task, times)
            wait_until(lambda: server.execute(IN_SLEEP, pids).fetchone() == (0,))

    asyncio.run(use())
    idle(pool_of(wrapper))


@pytest.mark.parametrize("steps", [1, 3, 6, 12])
def test_as_its_loop_ends(make_alias: MakeAlias, database: Any, steps: int) -> None:
    wrapper = make_alias({"max_size": 1})
    pids = []

    async def sleep() -> None:
        async with aio.connection(wrapper.alias) as connection:
            pids.append(await pid_of(connection))
            await connection.execute("SELECT pg_sleep(100)")

    async def use() -> None:
        task = asyncio.create_task(sleep())
        with connect(database) as server:
            while not pids or server.execute(IN_SLEEP, pids).fetchone() != (1,):
                await asyncio.sleep(0.001)
        task.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        # The end of the loop cancels all tasks that there are, once more.

    asyncio.run(use())
    idle(pool_of(wrapper))
    with connect(database) as server:
        assert server.execute(IN_SLEEP, pids).fetchone() == (0,)


def test_at_the_end_of_a_pipeline(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    statuses = []

    async def leave() -> None:
        async with aio.connection(wrapper.alias) as connection, connection.pipeline():
            await fetch(connection, "SELECT 1")
            await connection.lock.acquire()
            asyncio.get_running_loop().call_later(0.1, connection.lock.release)

    async def use() -> None:
        task = asyncio.create_task(leave())
        await asyncio.sleep(0)
        while not pool_of(wrapper).statistics().in_use:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        await canceled(task)
        async with aio.connection(wrapper.alias) as connection:
            await connection.execute("SELECT 1")
            statuses.append(connection.info.transaction_status)

    asyncio.run(use())
    assert statuses == [TransactionStatus.IDLE]
    idle(pool_of(wrapper))


def test_while_it_waits(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    pool = pool_of(wrapper)

    async def use() -> None:
        lease = pool.borrow()
        task = asyncio.create_task(aio.connection(wrapper.alias).__aenter__())
        while not pool.statistics().waiting:
            await asyncio.sleep(0)
        await canceled(task)
        assert pool.statistics().waiting == 0
        pool.give_back(lease)

    asyncio.run(use())
    idle(pool)


def test_when_it_was_just_handed_a_connection(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    pool = pool_of(wrapper)

    async def use() -> None:
        lease = pool.borrow()
        task = asyncio.create_task(aio.connection(wrapper.alias).__aenter__())
        while not pool.statistics().waiting:
            await asyncio.sleep(0)
        pool.give_back(lease)
        await canceled(task)

    asyncio.run(use())
    idle(pool)


async def in_transaction(connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE canceled AS SELECT 1 AS n")
        async with connection.transaction():
            await connection.execute("INSERT INTO canceled SELECT generate_series(1, 1000)")


async def in_pipeline(connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.pipeline(), connection.cursor() as cursor:
        for _ in range(5):
            await cursor.execute("SELECT generate_series(1, 100)")
        await cursor.fetchall()


async def in_copy(connection: psycopg.AsyncConnection[Any]) -> None:
    sql = "COPY (SELECT generate_series(1, 10000)) TO STDOUT"
    async with connection.cursor() as cursor, cursor.copy(sql) as copy:
        async for _ in copy:
            pass


async def in_stream(connection: psycopg.AsyncConnection[Any]) -> None:
    async for _ in connection.cursor().stream("SELECT generate_series(1, 1000)"):
        pass


async def in_server_cursor(connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.transaction(), connection.cursor("named") as cursor:
        await cursor.execute("SELECT generate_series(1, 1000)")
        await cursor.fetchmany(10)


async def in_settings(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("SET statement_timeout = 1234")
    await connection.execute("SELECT pg_advisory_lock(1)")
    await connection.execute("LISTEN canceled")
    async for _ in connection.notifies(timeout=0.01):
        pass


WAYS: list[Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]] = [
    in_transaction,
    in_pipeline,
    in_copy,
    in_stream,
    in_server_cursor,
    in_settings,
]


EXPECTED = (
    type(None),
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # psycopg 3.2 doesn't count down as the beginning of a nested transaction is canceled.
    OutOfOrderTransactionNesting,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("atomic", [False, True])
def test_anywhere(make_alias: MakeAlias, way: Any, atomic: bool) -> None:
    wrapper = make_alias({"max_size": 2, "timeout": 20})
    chance = random.Random(f"{way.__name__} {atomic}")
    fine = 0

    async def one() -> None:
        nonlocal fine
        async with aio.connection(wrapper.alias, atomic=atomic) as connection:
            assert await fetch(connection, "SHOW statement_timeout") == [("0",)]
            assert await fetch(
                connection,
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            ) == [(0,)]
            assert await fetch(connection, "SELECT to_regclass('pg_temp.canceled') IS NULL") == [
                (True,)
            ]
            await way(connection)
        fine += 1

    async def cancel_some() -> None:
        tasks = [asyncio.create_task(one()) for _ in range(60)]
        pending = set(tasks)
        while pending:
            for task in chance.sample(sorted(pending, key=id), min(2, len(pending))):
                for _ in range(chance.choice([1, 1, 2])):
                    task.cancel()
                    if chance.random() < 0.5:
                        await asyncio.sleep(0)
            _, pending = await asyncio.wait(pending, timeout=chance.random() * 0.01)
        for task in tasks:
            if not task.cancelled():
                assert isinstance(task.exception(), EXPECTED), task.exception()

    async def use() -> None:
        for _ in range(3):
            await cancel_some()
        before = fine
        await one()
        assert fine == before + 1

    asyncio.run(use())
    idle(pool_of(wrapper), within=15)


def in_a_loop_that_ends(coroutine: Coroutine[Any, Any, None]) -> None:
    thread = threading.Thread(target=asyncio.run, args=[coroutine])
    thread.start()
    thread.join()
    gc.collect()


def let_reclaim(pool: Pool) -> None:
    """Wait until all that seemed to be lost by now was reclaimed."""
    before = pool.statistics().reclaimed
    thread = threading.Thread(target=pool.borrow)
    thread.start()
    thread.join()
    wait_until(lambda: pool.statistics().reclaimed > before)


def test_while_its_session_is_checked(make_alias: MakeAlias) -> None:
    checking, go_on, is_new = threading.Event(), threading.Event(), True

    def check(connection: Any) -> None:
        if not is_new and not checking.is_set():
            checking.set()
            assert go_on.wait(10)
            connection.execute("SELECT 1")

    wrapper = make_alias({"max_size": 2, "check": check})
    pool = pool_of(wrapper)
    pool.give_back(pool.borrow())
    is_new = False

    async def use() -> None:
        task = asyncio.create_task(aio.connection(wrapper.alias).__aenter__())
        while not checking.is_set():
            await asyncio.sleep(0.001)
        await canceled(task)

    in_a_loop_that_ends(use())
    let_reclaim(pool)
    # It is the check's still.
    assert pool.statistics().in_use == 1
    go_on.set()
    idle(pool)
    assert pool.statistics().connects == 2


def test_while_receivers_are_told(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 2})
    pool = pool_of(wrapper)
    told, go_on, came = threading.Event(), threading.Event(), []

    def on_borrowed(connection: Any, **kwargs: Any) -> None:
        if connection.alias == wrapper.alias and not told.is_set():
            told.set()
            assert go_on.wait(20)
            came.append(backend_pid(connection))

    async def use() -> None:
        task = asyncio.create_task(aio.connection(wrapper.alias).__aenter__())
        while not told.is_set():
            await asyncio.sleep(0.001)
        await canceled(task)

    connection_borrowed.connect(on_borrowed)
    try:
        in_a_loop_that_ends(use())
        let_reclaim(pool)
        (lease,) = pool.leases()
        # It may take its time, and isn't lost.
        lease.since -= 100
        assert pool.strays.find() == {}
        go_on.set()
        idle(pool)
    finally:
        connection_borrowed.disconnect(on_borrowed)
    assert len(came) == 1


async def sleep(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("SELECT pg_sleep(100)")


async def listen(connection: psycopg.AsyncConnection[Any]) -> None:
    async for _ in connection.notifies():
        pass


@pytest.mark.parametrize(
    ("what", "error", "survives"),
    [
        (sleep, "canceling statement", True),
        (listen, "server closed the connection|was returned to its pool", False),
    ],
)
@pytest.mark.parametrize("cancels_it", [False, True])
def test_as_it_ends_a_block_whose_connection_another_task_uses(
    make_alias: MakeAlias,
    database: Any,
    what: Any,
    error: str,
    survives: bool,
    cancels_it: bool,
) -> None:
    wrapper = make_alias({"max_size": 1})
    others: list[asyncio.Task[None]] = []
    pids: list[int] = []

    async def leave() -> None:
        async with aio.connection(wrapper.alias) as connection:
            pids.append(await pid_of(connection))
            others.append(asyncio.create_task(what(connection)))
            await asyncio.sleep(0.05)

    async def use() -> None:
        task = asyncio.create_task(leave())
        while not others:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        if cancels_it:
            others[0].cancel()
        await canceled(task)
        async with aio.connection(wrapper.alias) as connection:
            assert (await pid_of(connection) == pids[0]) == (survives or cancels_it)
        if cancels_it:
            assert others[0].cancelled()
            return
        # Not that it is closed: libpq may crash if that happens while somebody uses it.
        with pytest.raises(psycopg.Error, match=error):
            await others[0]

    asyncio.run(use())
    idle(pool_of(wrapper))
    if not (survives or cancels_it):
        with connect(database) as server:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            wait_until(lambda: server.execute(sql, pids).fetchone() == (0,))


def test_twice_as_it_ends_a_block_whose_connection_another_task_uses(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    others: list[asyncio.Task[Any]] = []
    complaints: list[Any] = []

    async def leave() -> None:
        async with aio.connection(wrapper.alias, atomic=True) as connection:
            await connection.execute("CREATE TEMP TABLE left_half_done AS SELECT 1")
            others.append(asyncio.create_task(connection.execute("SELECT pg_sleep(100)")))
            await asyncio.sleep(0.05)

    async def use() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        task = asyncio.create_task(leave())
        while not others:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        await canceled(task, 2)
        # What is still to be done is canceled now.

    asyncio.run(use())
    assert complaints == []
    idle(pool_of(wrapper))


def unencrypted(make_alias: MakeAlias, proxy: Proxy) -> DatabaseWrapper:
    """Return a wrapper that connects by the proxy; nothing is asked before a cancel request itself."""
    options = {"sslmode": "disable", "gssencmode": "disable"}
    return make_alias({"max_size": 1}, HOST="127.0.0.1", PORT=str(proxy.port), OPTIONS=options)


def test_while_a_request_of_its_deadline_is_under_way(make_alias: MakeAlias, database: Any) -> None:
    with Proxy(int(database["PORT"])) as proxy:
        wrapper = unencrypted(make_alias, proxy)

        async def nest() -> None:
            async with (
                aio.connection(wrapper.alias) as connection,
                connection.transaction(),
                connection.transaction(),
                deadline(0.1),
            ):
                await connection.execute("SELECT 1")
                proxy.hold()
                await connection.execute("SELECT pg_sleep(0.2)")

        async def use() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(0.6, proxy.resume)
            task = asyncio.create_task(nest())
            await asyncio.sleep(0.4)
            await canceled(task, 3)

        asyncio.run(use())
        idle(pool_of(wrapper))


async def stream(connection: psycopg.AsyncConnection[Any], proxy: Proxy) -> None:
    sql = "SELECT generate_series(1, 10000000), repeat('x', 1000)"
    async for _ in connection.cursor().stream(sql):
        proxy.freeze()


async def fail_in_stream(connection: psycopg.AsyncConnection[Any], proxy: Proxy) -> None:
    async for _ in connection.cursor().stream("SELECT generate_series(1, 10000000)"):
        proxy.freeze()
        raise ZeroDivisionError


async def copy(connection: psycopg.AsyncConnection[Any], proxy: Proxy) -> None:
    sql = "COPY (SELECT generate_series(1, 10000000)) TO STDOUT"
    async with connection.cursor().copy(sql) as copying:
        async for _ in copying:
            proxy.freeze()


@pytest.mark.parametrize("what", [stream, fail_in_stream, copy])
def test_where_the_server_doesnt_answer(make_alias: MakeAlias, database: Any, what: Any) -> None:
    with Proxy(int(database["PORT"])) as proxy:
        wrapper = make_alias({"max_size": 1}, HOST="127.0.0.1", PORT=str(proxy.port))

        async def use() -> None:
            async with asyncio.timeout(0.5), aio.connection(wrapper.alias) as connection:
                await what(connection, proxy)

        began = monotonic()
        # psycopg 3.2 raises the server's error in the place of what ends a COPY.
        with pytest.raises((TimeoutError, ZeroDivisionError, psycopg.OperationalError)):
            asyncio.run(use())
        assert monotonic() - began < 5
        proxy.resume()
        idle(pool_of(wrapper))


async def by_the_end_of_the_block(connection: psycopg.AsyncConnection[Any]) -> Any:
    return asyncio.create_task(connection.execute("SELECT pg_sleep(2.7)"))


async def by_a_task(connection: psycopg.AsyncConnection[Any]) -> Any:
    task = asyncio.create_task(connection.execute("SELECT pg_sleep(0.3)"))
    await asyncio.sleep(0.1)
    asking = asyncio.create_task(connection.cancel_safe())
    await task
    return asking


async def by_a_task_that_is_canceled(connection: psycopg.AsyncConnection[Any]) -> Any:
    asking = await by_a_task(connection)
    asking.cancel()
    return asking


async def by_the_end_of_a_stream(connection: psycopg.AsyncConnection[Any]) -> Any:
    stream = connection.cursor().stream("SELECT generate_series(1, 10000)")
    await anext(stream)
    return asyncio.create_task(stream.aclose())


@pytest.mark.parametrize(
    "begin",
    [
        by_the_end_of_the_block,
        by_a_task,
        by_a_task_that_is_canceled,
        by_the_end_of_a_stream,
    ],
)
def test_a_request_that_arrives_late_hits_nobody_else(
    make_alias: MakeAlias, database: Any, begin: Any
) -> None:
    with Proxy(int(database["PORT"])) as proxy:
        wrapper = unencrypted(make_alias, proxy)

        async def use() -> None:
            async with aio.connection(wrapper.alias) as connection:
                proxy.hold()
                begun = await begin(connection)
                await asyncio.sleep(0.2)
            asyncio.get_running_loop().call_later(0.2, proxy.resume)
            async with aio.connection(wrapper.alias) as connection:
                await connection.execute("SELECT pg_sleep(0.6)")
            await asyncio.gather(begun, return_exceptions=True)

        asyncio.run(use())
        idle(pool_of(wrapper))


@pytest.mark.skipif(not psycopg.capabilities.has_cancel_safe(), reason="libpq before 17")
@pytest.mark.skipif(psycopg.__version__ < "3.3", reason="psycopg 3.2 waits in tasks of its own")
def test_with_all_tasks_at_the_end_of_a_loop(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})

    async def work() -> None:
        async with aio.connection(wrapper.alias) as connection, connection.pipeline():
            await connection.execute("SELECT pg_sleep(30)")

    async def use() -> None:
        task = asyncio.create_task(work())
        while pool_of(wrapper).statistics().in_use == 0:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        while not task.done():  # as asyncio.run() does it, but at any moment
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    idle(pool_of(wrapper))
    assert pool_of(wrapper).statistics().connects == 1
