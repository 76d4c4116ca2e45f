from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError

from django_pooled_pg import returning_connections, without_connection
from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import backend_pid, hold

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture(autouse=True)
def aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    for alias in ("returning", "idlers", "of_async"):
        monkeypatch.setitem(connections.settings, alias, {})


@pytest.fixture
def wrapper(make_wrapper: MakeWrapper) -> Iterator[DatabaseWrapper]:
    """One of this thread's `connections`."""
    wrapper = make_wrapper(alias="returning")
    connections["returning"] = wrapper
    yield wrapper
    del connections["returning"]


def in_use(wrapper: DatabaseWrapper) -> int:
    assert wrapper.pool is not None
    return wrapper.pool.statistics().in_use


def test_without_connection_gives_back_and_the_next_query_borrows(
    wrapper: DatabaseWrapper,
) -> None:
    hold(wrapper)
    with without_connection():
        assert in_use(wrapper) == 0
        hold(wrapper)
    assert in_use(wrapper) == 1


def test_without_connection_in_a_transaction_is_an_error_and_gives_nothing_back(
    wrapper: DatabaseWrapper,
) -> None:
    with transaction.atomic(using="returning"):
        pid = backend_pid(wrapper)
        with pytest.raises(TransactionManagementError, match="database 'returning'"):
            without_connection().__enter__()
        assert backend_pid(wrapper) == pid
    wrapper.set_autocommit(False)
    with pytest.raises(TransactionManagementError):
        without_connection().__enter__()
    wrapper.set_autocommit(True)


def test_returning_connections_around_a_block(wrapper: DatabaseWrapper) -> None:
    with returning_connections():
        hold(wrapper)
        assert in_use(wrapper) == 1
    assert in_use(wrapper) == 0


def test_returning_connections_when_the_work_fails(wrapper: DatabaseWrapper) -> None:
    @returning_connections()
    def fail() -> None:
        hold(wrapper)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert in_use(wrapper) == 0


def test_returning_connections_leaves_an_older_transaction_alone(
    wrapper: DatabaseWrapper,
) -> None:
    with transaction.atomic(using="returning"):
        pid = backend_pid(wrapper)
        with returning_connections():
            assert backend_pid(wrapper) == pid
        assert backend_pid(wrapper) == pid


def test_returning_connections_as_a_decorator_in_threads(make_wrapper: MakeWrapper) -> None:
    """More threads that idle on than the pool has connections."""
    spare = make_wrapper(pool={"max_size": 2}, alias="idlers")

    @returning_connections()
    def work(number: int) -> int:
        connections["idlers"] = make_wrapper(pool={"max_size": 2}, alias="idlers")
        return hold(connections["idlers"])  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as executor:
        pids = list(executor.map(work, range(32)))
        assert len(set(pids)) <= 2
        assert in_use(spare) == 0
    assert work.__name__ == "work"


def test_in_async_code_it_is_the_thread_of_synchronous_code(make_wrapper: MakeWrapper) -> None:
    async def scenario() -> list[int]:
        seen = []

        def query() -> None:
            connections["of_async"] = make_wrapper(alias="of_async")
            hold(connections["of_async"])  # type: ignore[arg-type]

        def look() -> int:
            return in_use(connections["of_async"])  # type: ignore[arg-type]

        await sync_to_async(query)()
        seen.append(await sync_to_async(look)())
        async with without_connection():
            seen.append(await sync_to_async(look)())
        await sync_to_async(query)()
        async with returning_connections():
            seen.append(await sync_to_async(look)())
        seen.append(await sync_to_async(look)())

        @returning_connections()
        async def work() -> Any:
            await sync_to_async(query)()
            return await sync_to_async(look)()

        seen += [await work(), await sync_to_async(look)()]
        await sync_to_async(connections.__delitem__)("of_async")
        return seen

    assert asyncio.run(scenario()) == [1, 0, 1, 0, 1, 0]
