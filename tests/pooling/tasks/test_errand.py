"""A thread does for a task what would block its event loop; a result that nobody waits for is undone."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from django_pooled_pg.pooling.tasks.errand import in_thread
from tests.soak.child import DONE, run_in_child
from tests.support.waiting import wait_until

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


def test_a_task_gets_the_result_of_a_thread_in_its_context() -> None:
    async def use() -> None:
        variable.set(7)
        assert await in_thread(lambda: (variable.get(), threading.current_thread())) != (
            7,
            threading.main_thread(),
        )
        assert await in_thread(variable.get) == 7

    asyncio.run(use())


def test_an_error_comes_out() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def use() -> None:
        with pytest.raises(ZeroDivisionError):
            await in_thread(fail)

    asyncio.run(use())


def test_the_result_for_a_task_that_was_canceled_is_undone() -> None:
    go_on, undone = threading.Event(), []

    def errand() -> int:
        go_on.wait(10)
        return 7

    async def use() -> None:
        task = asyncio.create_task(in_thread(errand, undo=undone.append))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert undone == []
        go_on.set()
        while not undone:
            await asyncio.sleep(0.001)

    asyncio.run(use())
    assert undone == [7]


def test_the_result_for_a_task_that_was_canceled_as_it_came_is_undone() -> None:
    undone: list[int] = []

    async def use() -> None:
        came = threading.Event()

        def errand() -> int:
            came.set()
            return 7

        task = asyncio.create_task(in_thread(errand, undo=undone.append))
        await asyncio.sleep(0)
        came.wait(10)  # the loop hears of it afterwards
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not undone:
            await asyncio.sleep(0.001)

    asyncio.run(use())
    assert undone == [7]


def test_the_result_is_the_parents_in_a_forked_child() -> None:
    undone: list[int] = []

    async def use() -> None:
        came = threading.Event()

        def errand() -> int:
            came.set()
            return 7

        errands = in_thread(errand, undo=undone.append)
        task = asyncio.create_task(errands)
        await asyncio.sleep(0)
        came.wait(10)  # the loop hears of it afterwards

        def in_child() -> None:
            errands.close()
            assert undone == []

        assert run_in_child(in_child) == DONE
        assert await task == 7

    asyncio.run(use())
    assert undone == []


def test_the_result_for_a_loop_that_was_closed_is_undone() -> None:
    go_on, undone = threading.Event(), []

    def errand() -> int:
        go_on.wait(10)
        return 7

    loop = asyncio.new_event_loop()
    task = loop.create_task(in_thread(errand, undo=undone.append))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    go_on.set()
    wait_until(lambda: undone == [7])
    task._log_destroy_pending = False  # type: ignore[attr-defined]
