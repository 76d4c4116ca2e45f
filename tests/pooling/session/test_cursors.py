from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import InterfaceError
from psycopg import sql

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.session.statements import CHANGES
from django_pooled_pg.pooling.session.use import Use, use_of

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture(params=[False, True], ids=["client", "server"])
def wrapper(request: pytest.FixtureRequest, make_wrapper: MakeWrapper) -> DatabaseWrapper:
    wrapper = make_wrapper(OPTIONS={"server_side_binding": request.param})
    wrapper.ensure_connection()
    return wrapper


@pytest.fixture
def connection(wrapper: DatabaseWrapper) -> psycopg.Connection[Any]:
    connection: psycopg.Connection[Any] = wrapper.connection
    return connection


@pytest.fixture
def use(connection: psycopg.Connection[Any]) -> Use:
    return use_of(connection)


def test_every_way_to_run_a_statement_is_noted(
    connection: psycopg.Connection[Any], use: Use
) -> None:
    change = "SELECT set_config('work_mem', '5MB', false)"
    ways: list[Callable[[psycopg.Cursor[Any]], Any]] = [
        lambda cursor: cursor.execute(change),
        lambda cursor: cursor.execute(change.encode()),
        lambda cursor: cursor.execute(sql.SQL("SELECT set_config({}, '5MB', false)").format("x.y")),
        lambda cursor: cursor.executemany("SELECT set_config('x.y', %s, false)", [("1",)]),
        lambda cursor: list(cursor.stream(change)),
        lambda cursor: cursor.connection.execute(change),
    ]
    for way in ways:
        use.forget_effect()
        with connection.cursor() as cursor:
            way(cursor)
        assert use.effect == CHANGES
    use.forget_effect()
    with connection.cursor() as cursor, cursor.copy(f"COPY ({change}) TO STDOUT") as copy:
        list(copy)
    assert use.effect == CHANGES


def test_what_changes_nothing_is_not(wrapper: DatabaseWrapper, use: Use) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT %s", ["SET x = 1"])
    assert use.effect != CHANGES


def test_djangos_server_side_cursors_are_remembered_until_closed(
    wrapper: DatabaseWrapper, use: Use
) -> None:
    cursors = [wrapper.chunked_cursor() for _ in range(3)]
    assert len(use.server_cursors) == 3
    for cursor in cursors:
        cursor.execute("SELECT 1")
        cursor.close()
    assert not use.server_cursors


def test_a_refused_write_is_noted(connection: psycopg.Connection[Any], use: Use) -> None:
    connection.execute("BEGIN READ ONLY")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("CREATE TABLE t (n int)")
    assert use.refused_to_write
    connection.rollback()


def test_a_cursor_is_still_what_it_was(wrapper: DatabaseWrapper, make_wrapper: MakeWrapper) -> None:
    stock = make_wrapper(pool=False, OPTIONS=wrapper.settings_dict["OPTIONS"])
    stock.ensure_connection()
    assert issubclass(wrapper.connection.cursor_factory, stock.connection.cursor_factory)
    assert wrapper.connection.cursor_factory.__name__ == stock.connection.cursor_factory.__name__


def test_a_cursor_belongs_to_the_borrow_it_was_made_in(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    wrapper.close()
    wrapper.ensure_connection()
    with pytest.raises(InterfaceError, match="returned to its pool"):
        cursor.execute("SELECT 1")


def test_a_cursors_connection_is_the_one_that_notes(
    wrapper: DatabaseWrapper, connection: psycopg.Connection[Any]
) -> None:
    with wrapper.cursor() as cursor:
        assert cursor.connection is connection
        assert cursor.cursor.connection is connection


def test_a_closed_cursor_counts_once(wrapper: DatabaseWrapper, use: Use) -> None:
    first, second = wrapper.cursor(), wrapper.cursor()
    first.close()
    first.close()
    assert len(use.open_cursors) == 1
    second.close()
    assert not use.open_cursors


def test_a_closed_cursor_keeps_no_handle(wrapper: DatabaseWrapper) -> None:
    """Else each return at the end of a transaction would make the next borrow's handles anew."""
    lease = wrapper._lease
    assert lease is not None
    handles = lease.session.handles
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT %s", [1])
        assert cursor.fetchone() == (1,)
    closed = cursor.cursor
    del lease
    wrapper.close()
    wrapper.ensure_connection()
    assert wrapper._lease is not None
    assert wrapper._lease.session.handles is handles
    assert closed._query.query.startswith(b"SELECT")
