"""What a task does to its session reaches nobody else, and what it keeps is of no use.

Also `pooling/tasks/cursors.py` and `pooling/tasks/handles.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from django_pooled_pg import aio
from tests.aio.conftest import MakeAlias, fetch, idle, pid_of, pool_of
from tests.support.queries import backend_pid
from tests.support.queries import fetch as fetch_in_thread

Connection = psycopg.AsyncConnection[Any]


async def by_execute(connection: Connection) -> None:
    await connection.execute("SET search_path = 'elsewhere'")


async def by_a_function(connection: Connection) -> None:
    await fetch(connection, "SELECT set_config('search_path', 'elsewhere', false)")


async def by_many(connection: Connection) -> None:
    sql = "SELECT set_config('search_path', %s, false)"
    await connection.cursor().executemany(sql, [["elsewhere"]])


async def by_a_raw_cursor(connection: Connection) -> None:
    await psycopg.AsyncRawCursor(connection).execute("SET search_path = 'elsewhere'")


async def by_a_cursor_made_directly(connection: Connection) -> None:
    await psycopg.AsyncCursor(connection).execute("SET search_path = 'elsewhere'")


async def by_another_factory(connection: Connection) -> None:
    connection.cursor_factory = psycopg.AsyncRawCursor
    await connection.execute("SET search_path = 'elsewhere'")


async def by_a_factory_that_is_a_function(connection: Connection) -> None:
    factory: Any = lambda connection, **kwargs: psycopg.AsyncCursor(connection)  # noqa: E731
    connection.cursor_factory = factory
    await connection.execute("SET search_path = 'elsewhere'")


async def by_libpq(connection: Connection) -> None:
    connection.pgconn.exec_(b"SET search_path = 'elsewhere'")


async def by_a_pipeline(connection: Connection) -> None:
    async with connection.pipeline():
        await connection.execute("SET search_path = 'elsewhere'")


async def by_a_stream(connection: Connection) -> None:
    sql = "SELECT set_config('search_path', 'elsewhere', false)"
    async for _ in connection.cursor().stream(sql):
        pass


async def by_a_server_cursor(connection: Connection) -> None:
    async with connection.transaction(), connection.cursor("c") as cursor:
        await cursor.execute("SELECT set_config('search_path', 'elsewhere', false)")
        await cursor.fetchall()


async def by_a_copy(connection: Connection) -> None:
    sql = "COPY (SELECT set_config('search_path', 'elsewhere', false)) TO STDOUT"
    async with connection.cursor().copy(sql) as copy:
        async for _ in copy:
            pass


async def by_a_transaction_left_open(connection: Connection) -> None:
    await connection.execute("BEGIN")
    await connection.execute("SET search_path = 'elsewhere'")


async def by_autocommit_off(connection: Connection) -> None:
    await connection.set_autocommit(False)
    await connection.execute("SET search_path = 'elsewhere'")


async def by_isolation(connection: Connection) -> None:
    await connection.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
    await connection.set_autocommit(False)


async def by_row_factory(connection: Connection) -> None:
    connection.row_factory = psycopg.rows.dict_row


async def by_a_temporary_table(connection: Connection) -> None:
    await connection.execute("CREATE TEMP TABLE left_behind (n int)")


async def by_a_lock(connection: Connection) -> None:
    await connection.execute("SELECT pg_advisory_lock(4711)")


async def by_listening(connection: Connection) -> None:
    await connection.execute("LISTEN left_behind")
    async for _ in connection.notifies(timeout=0):
        pass


async def by_a_cursor_with_hold(connection: Connection) -> None:
    cursor = connection.cursor("held", withhold=True)
    await cursor.execute("SELECT 1")


async def by_a_notice_handler(connection: Connection) -> None:
    connection.add_notice_handler(lambda notice: pytest.fail("somebody else's notice"))


STATE = """
    SELECT current_setting('search_path'), current_setting('transaction_isolation'),
        to_regclass('pg_temp.left_behind') IS NULL,
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
        (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors)
"""
CLEAN = ('"$user", public', "read committed", True, 0, 0, 0)

WAYS: list[Callable[[Connection], Any]] = [
    way for name, way in list(globals().items()) if name.startswith("by_")
]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_task_leaves_is_undone(make_alias: MakeAlias, way: Any) -> None:
    wrapper = make_alias({"max_size": 1})

    async def leave() -> None:
        async with aio.connection(wrapper.alias) as connection:
            await way(connection)

    async def look() -> Any:
        async with aio.connection(wrapper.alias) as connection:
            await connection.execute("DO $$ BEGIN RAISE NOTICE 'x'; END $$")
            (row,) = await fetch(connection, STATE)
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            return row

    for _ in range(2):
        asyncio.run(leave())
        assert asyncio.run(look()) == CLEAN
        asyncio.run(leave())
        with wrapper.cursor() as cursor:
            cursor.execute(STATE)
            assert cursor.fetchone() == CLEAN
        wrapper.close()
    idle(pool_of(wrapper))


def test_what_a_thread_leaves_reaches_no_task(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    fetch_in_thread(wrapper, "SELECT set_config('search_path', 'elsewhere', false)")
    kept: Any = wrapper.connection
    wrapper.close()

    async def look() -> Any:
        async with aio.connection(wrapper.alias) as connection:
            if kept is not None:
                with pytest.raises(psycopg.InterfaceError):
                    kept.execute("SELECT 1")
            return (await fetch(connection, STATE))[0]

    assert asyncio.run(look()) == CLEAN


def test_what_is_kept_is_of_no_use(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})

    async def keep() -> tuple[Any, Any, Any]:
        async with aio.connection(wrapper.alias) as connection:
            cursor = connection.cursor()
            await cursor.execute("SELECT generate_series(1, 3)")
            return connection, cursor, connection.transaction()

    async def use() -> None:
        connection, cursor, transaction = await keep()
        assert await cursor.fetchone() == (1,)  # it has its rows
        uses: list[Callable[[], Any]] = [
            lambda: connection.execute("SET search_path = 'elsewhere'"),
            lambda: cursor.execute("SET search_path = 'elsewhere'"),
            lambda: cursor.executemany("SELECT %s", [[1]]),
            lambda: transaction.__aenter__(),
            lambda: connection.commit(),
            lambda: connection.rollback(),
            lambda: connection.set_autocommit(False),
            lambda: anext(connection.notifies(timeout=0)),
            lambda: anext(cursor.stream("SELECT 1")),
            lambda: cursor.copy("COPY pg_class TO STDOUT").__aenter__(),
            lambda: connection.pipeline().__aenter__(),
            lambda: connection.wait(connection._commit_gen()),
        ]
        async with aio.connection(wrapper.alias) as other:
            for each in uses:
                with pytest.raises(psycopg.Error, match=r"returned to its pool|is closed"):
                    await each()
            with pytest.raises(psycopg.InterfaceError):
                connection.cursor()
            with pytest.raises(psycopg.InterfaceError):
                connection.row_factory = None
            assert (await fetch(other, STATE))[0] == CLEAN
        await connection.close()

    asyncio.run(use())
    idle(pool_of(wrapper))


async def a_suspended_notifies(connection: Connection) -> Any:
    await connection.execute("LISTEN kept")
    await connection.execute("NOTIFY kept")
    notifies = connection.notifies()
    if connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
        task = asyncio.ensure_future(anext(notifies))  # it won't come before COMMIT
        await asyncio.sleep(0.01)
        return task
    await anext(notifies)
    return notifies


async def a_suspended_stream(connection: Connection) -> Any:
    stream = connection.cursor().stream("SELECT generate_series(1, 100000)")
    await anext(stream)
    return stream


async def an_open_pipeline(connection: Connection) -> Any:
    pipeline = connection.pipeline()
    await pipeline.__aenter__()
    await connection.execute("SELECT 1")
    return pipeline


async def an_open_transaction(connection: Connection) -> Any:
    transaction = connection.transaction()
    await transaction.__aenter__()
    return transaction


async def an_open_copy(connection: Connection) -> Any:
    copying = connection.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
    await copying.__aenter__()
    return copying


async def a_statement_of_another_task(connection: Connection) -> Any:
    task = asyncio.create_task(connection.cursor().execute("SELECT pg_sleep(100)"))
    while connection.info.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "begin",
    [
        a_suspended_notifies,
        a_suspended_stream,
        an_open_pipeline,
        an_open_transaction,
        an_open_copy,
        a_statement_of_another_task,
    ],
)
def test_what_was_begun_disturbs_nobody(make_alias: MakeAlias, begin: Any, atomic: bool) -> None:
    wrapper = make_alias({"max_size": 1})

    async def use() -> None:
        begun = None
        with suppress(psycopg.Error):
            async with aio.connection(wrapper.alias, atomic=atomic) as connection:
                begun = await begin(connection)
        async with aio.connection(wrapper.alias, atomic=True) as other:
            await other.execute("CREATE TABLE begun (n int)")
            with suppress(Exception):
                if isinstance(begun, asyncio.Future):
                    await begun
                else:
                    end = getattr(begun, "aclose", None)
                    await (end() if end is not None else begun.__aexit__(None, None, None))
            await other.execute("INSERT INTO begun VALUES (1)")
        async with aio.connection(wrapper.alias) as other:
            assert await fetch(other, "SELECT n FROM begun") == [(1,)]
            await other.execute("DROP TABLE begun")

    asyncio.run(asyncio.wait_for(use(), 20))
    idle(pool_of(wrapper))


def test_a_notifies_that_is_just_left_keeps_the_session(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})

    async def use() -> int:
        async with aio.connection(wrapper.alias) as connection:
            await connection.execute("LISTEN left_soon")
            await connection.execute("NOTIFY left_soon")
            async for _ in connection.notifies():
                break
            return await pid_of(connection)

    assert asyncio.run(use()) == backend_pid(wrapper)


def test_prepared_statements_are_those_of_the_session(make_alias: MakeAlias) -> None:
    options = {"server_side_binding": True, "prepare_threshold": 0}
    wrapper = make_alias({"max_size": 1}, OPTIONS=options)

    async def use() -> None:
        for _ in range(3):
            async with aio.connection(wrapper.alias) as connection:
                cursor = await connection.execute("SELECT %s::int + 1", [1])
                assert await cursor.fetchone() == (2,)

    for _ in range(2):
        asyncio.run(use())
        assert fetch_in_thread(wrapper, "SELECT %s::int + 1", [2]) == 3
        wrapper.close()
    sql = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%::int + 1'"
    assert fetch_in_thread(wrapper, sql) == 1


def test_a_handler_that_a_borrower_removes_is_there_for_the_next(make_alias: MakeAlias) -> None:
    def configure(connection: Any) -> None:
        connection.add_notice_handler(print)
        connection.add_notify_handler(print)

    wrapper = make_alias({"max_size": 1, "configure": configure})

    async def remove() -> None:
        async with aio.connection(wrapper.alias) as connection:
            connection.remove_notice_handler(print)
        async with aio.connection(wrapper.alias) as connection:
            connection.remove_notify_handler(print)

    for _ in range(2):
        asyncio.run(remove())  # raises if it isn't there
        for name in ("notice", "notify"):
            wrapper.ensure_connection()
            getattr(wrapper.connection, f"remove_{name}_handler")(print)
            wrapper.close()
    assert pool_of(wrapper).statistics().connects == 1


def test_notices_and_notifications_reach_the_task(make_alias: MakeAlias) -> None:
    wrapper = make_alias({"max_size": 1})
    notices: list[Any] = []

    async def use() -> None:
        async with aio.connection(wrapper.alias) as connection:
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            await connection.execute("DO $$ BEGIN RAISE NOTICE 'here'; END $$")
            await connection.execute("LISTEN reach")
            await connection.execute("NOTIFY reach, 'once'")
            got = [notify.payload async for notify in connection.notifies(timeout=0.1)]
            assert got == ["once"]

    asyncio.run(use())
    assert notices == ["here"]
