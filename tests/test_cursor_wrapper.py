from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import ProgrammingError

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.cursor_wrapper import CursorWrapper

MakeWrapper = Callable[..., DatabaseWrapper]


def test_rows_come_as_from_djangos(make_wrapper: MakeWrapper) -> None:
    with make_wrapper().cursor() as cursor:
        assert type(cursor) is CursorWrapper
        cursor.execute("SELECT generate_series(1, 6)")
        assert cursor.fetchone() == (1,)
        assert cursor.fetchmany(2) == [(2,), (3,)]
        assert cursor.fetchmany(size=1) == [(4,)]
        assert cursor.fetchall() == [(5,), (6,)]
        assert cursor.fetchone() is None
        assert cursor.nextset() is None


@pytest.mark.parametrize("method", ["fetchone", "fetchmany", "fetchall"])
def test_errors_are_djangos(make_wrapper: MakeWrapper, method: str) -> None:
    with make_wrapper().cursor() as cursor, pytest.raises(ProgrammingError):
        getattr(cursor, method)()


def test_queries_are_logged_as_ever(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.force_debug_cursor = True
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
    assert [query["sql"] for query in wrapper.queries_log] == ["SELECT 1"]
