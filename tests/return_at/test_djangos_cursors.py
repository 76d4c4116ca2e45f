"""What else Django does with cursors and connections."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.test.utils import CaptureQueriesContext

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import (
    held,
    statistics,
)
from tests.support.queries import backend_pid


def test_a_debug_cursor_returns_it(wrapper: DatabaseWrapper) -> None:
    wrapper.force_debug_cursor = True
    backend_pid(wrapper)
    assert held(wrapper) == 0
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
    assert held(wrapper) == 0
    assert [query["sql"] for query in wrapper.queries] == [
        "SELECT pg_backend_pid()",
        "BEGIN",
        "SELECT pg_backend_pid()",
        "COMMIT",
    ]


def test_captured_queries_are_all_there(wrapper: DatabaseWrapper) -> None:
    """Capturing asks for a connection at its start, which thereby stays."""
    with CaptureQueriesContext(wrapper) as captured:
        backend_pid(wrapper)
        backend_pid(wrapper)
    assert len(captured) == 2
    wrapper.close()
    assert held(wrapper) == 0


def test_an_execute_wrapper_runs_while_it_is_held(wrapper: DatabaseWrapper) -> None:
    seen: list[Any] = []

    def look(run: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        assert context["connection"] is wrapper
        seen.append((sql, held(wrapper)))
        return run(sql, params, many, context)

    with wrapper.execute_wrapper(look):
        backend_pid(wrapper)
        assert held(wrapper) == 0
    backend_pid(wrapper)
    assert seen == [("SELECT pg_backend_pid()", 1)]


def test_a_query_inside_an_execute_wrapper_does_not_return_it(wrapper: DatabaseWrapper) -> None:
    pids: list[int] = []

    def explain(run: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        if not pids:
            pids.append(0)
            pids.append(backend_pid(wrapper))
            assert held(wrapper) == 1
        return run(sql, params, many, context)

    with wrapper.execute_wrapper(explain):
        assert backend_pid(wrapper) == pids[1]
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_copy_returns_it_with_the_cursor(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as cursor:
        with cursor.copy("COPY (SELECT generate_series(1, 3)) TO STDOUT") as copy:
            assert [bytes(data) for data in copy] == [b"1\n", b"2\n", b"3\n"]
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_temporary_connection_returns_it(wrapper: DatabaseWrapper) -> None:
    with wrapper.temporary_connection() as cursor:
        cursor.execute("SELECT 1")
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_the_end_of_a_request_with_nothing_held(wrapper: DatabaseWrapper) -> None:
    backend_pid(wrapper)
    wrapper.close_if_unusable_or_obsolete()
    wrapper.close()
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1
