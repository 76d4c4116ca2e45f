from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import ProgrammingError
from django.db.backends.utils import CursorWrapper as DjangoCursorWrapper
from django.db.transaction import TransactionManagementError

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


def test_a_refused_statement_is_djangos_error(make_wrapper: MakeWrapper) -> None:
    with make_wrapper().cursor() as cursor:
        for arguments in (["SELECT nothing"], ["SELECT nothing WHERE 1 = %s", [1]]):
            with pytest.raises(ProgrammingError) as caught:
                cursor.execute(*arguments)
            assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedColumn)


def test_a_broken_transaction_is_told(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    with wrapper.cursor() as cursor:
        wrapper.needs_rollback = True
        with pytest.raises(TransactionManagementError, match="atomic"):
            cursor.execute("SELECT 1")
        wrapper.needs_rollback = False


def test_a_query_too_early_is_told(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_wrapper().cursor() as cursor:
        monkeypatch.setattr(apps, "ready", False)
        with pytest.warns(RuntimeWarning, match="app initialization"):
            cursor.execute("SELECT 1")


def test_execute_wrappers_are_called(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    seen = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        seen.append((sql, params, many, context["connection"]))
        return execute(sql, params, many, context)

    with wrapper.cursor() as cursor, wrapper.execute_wrapper(note):
        cursor.execute("SELECT %s", [1])
        assert cursor.fetchall() == [(1,)]
    assert seen == [("SELECT %s", [1], False, wrapper)]


def test_queries_are_logged_as_ever(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.force_debug_cursor = True
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
    assert [query["sql"] for query in wrapper.queries_log] == ["SELECT 1"]


@pytest.mark.parametrize("method", ["fetchone", "fetchmany", "fetchall", "close"])
def test_a_subclass_sees_each_access(make_wrapper: MakeWrapper, method: str) -> None:
    """As django-debug-toolbar does, to forbid queries."""

    class Forbidden(Exception):
        pass

    class Guard:
        def __getattr__(self, name: str) -> Any:
            raise Forbidden(name)

    with make_wrapper().cursor() as cursor:
        guarded = type("Guarded", (Guard, type(cursor)), {})(cursor.cursor, cursor.db)
        with pytest.raises(Forbidden, match=method):
            getattr(guarded, method)


def test_a_subclass_has_its_own_ways(make_wrapper: MakeWrapper) -> None:
    seen: list[str] = []

    class Own(CursorWrapper):
        def _execute(self, sql: str, *args: Any) -> Any:
            seen.append(sql)
            return super()._execute(sql, *args)  # type: ignore[misc]

        def fetchone(self) -> Any:
            return super().fetchone() or ()

        def __getattr__(self, name: str) -> Any:
            seen.append(name)
            return super().__getattr__(name)

    with make_wrapper().cursor() as cursor:
        own = Own(cursor.cursor, cursor.db)
        own.execute("SELECT 1")
        assert own.fetchone() == (1,)
        assert own.fetchall() == []
    assert seen == ["SELECT 1", "fetchall"]


@pytest.mark.parametrize("name", ["execute", "_execute", "_execute_with_wrappers"])
def test_what_patches_djangos_class_is_called(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[Any] = []
    djangos = getattr(DjangoCursorWrapper, name)

    def patched(self: Any, sql: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(sql)
        return djangos(self, sql, *args, **kwargs)

    monkeypatch.setattr(DjangoCursorWrapper, name, patched)
    with make_wrapper().cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert seen == ["SELECT 1"]
