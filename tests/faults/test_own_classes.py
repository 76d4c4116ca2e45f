"""Connection classes of the site's own, as `connection_class` and `cursor_factory`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import fetch

MakeWrapper = Callable[..., DatabaseWrapper]


class WithGetattr(psycopg.Connection[Any]):
    def __getattr__(self, name: str) -> Any:
        if name == "tenant":
            return "north"
        raise AttributeError(name)


class WithSetattr(psycopg.Connection[Any]):
    tenant = "north"

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value


class WithCursors(psycopg.Connection[Any]):
    tenant = "north"

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return psycopg.ClientCursor(self)


class WithCursorsOfItsFactory(psycopg.Connection[Any]):
    tenant = "north"

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return super().cursor(*args, **kwargs)


CLASSES = [WithCursorsOfItsFactory, WithGetattr, WithSetattr, WithCursors]


@pytest.mark.parametrize("connection_class", CLASSES)
def test_it_works_as_without_a_pool(make_wrapper: MakeWrapper, connection_class: Any) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "connection_class": connection_class})
    for _ in range(2):
        assert fetch(wrapper, "SELECT 1") == 1
        wrapper.ensure_connection()
        assert wrapper.connection.tenant == "north"
        wrapper.close()


@pytest.mark.parametrize("connection_class", CLASSES)
def test_its_changes_are_undone(make_wrapper: MakeWrapper, connection_class: Any) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "connection_class": connection_class})
    with wrapper.cursor() as cursor:
        cursor.execute("SET work_mem = '5MB'")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == "4MB"


def test_cursors_of_its_factory_cause_no_reset(make_wrapper: MakeWrapper) -> None:
    pool = {"max_size": 1, "connection_class": WithCursorsOfItsFactory}
    wrapper = make_wrapper(pool=pool)
    assert fetch(wrapper, "SELECT 1") == 1
    lease: Any = wrapper._lease
    assert lease is None or not lease.pool.would_reset(lease)
    wrapper.close()
    assert fetch(wrapper, "SELECT 1") == 1
    wrapper.close()
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().resets == 0


def its_cursors(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    return make_wrapper(pool={"max_size": 1, "connection_class": WithCursors})


def its_factory(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    def make(connection: Any, **options: Any) -> Any:
        return psycopg.ClientCursor(connection, **options)

    return make_wrapper(pool={"max_size": 1}, OPTIONS={"cursor_factory": make})


@pytest.mark.parametrize("made", [its_cursors, its_factory])
def test_a_cursor_that_is_open_keeps_its_connection(
    make_wrapper: MakeWrapper, made: Callable[[MakeWrapper], DatabaseWrapper]
) -> None:
    wrapper = made(make_wrapper)
    with wrapper.cursor() as cursor:
        lease: Any = wrapper._lease
        wrapper.give_back_unused(lease)  # as housekeeping does after a second
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_libpqs_connection_by_info(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    wrapper.ensure_connection()
    pgconn = wrapper.connection.info.pgconn
    pgconn.exec_(b"SET work_mem = '5MB'")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == "4MB"
    with pytest.raises(psycopg.Error):
        pgconn.exec_(b"SET work_mem = '6MB'")


def test_a_fork_while_another_thread_looks_whether_it_is_unused(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    cursor = wrapper.cursor()
    lease: Any = wrapper._lease
    inside, go = threading.Event(), threading.Event()

    def look(lease: Any) -> None:
        inside.set()
        go.wait(10)

    monkeypatch.setattr(wrapper, "_give_back_early", look)
    thread = threading.Thread(target=wrapper.give_back_unused, args=[lease])
    thread.start()
    assert inside.wait(5)
    if not (pid := os.fork()):
        signal.alarm(5)
        with wrapper.cursor() as own:
            own.execute("SELECT 1")
            os._exit(0)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    cursor.close()
