"""What a use notes; tests/faults/test_kept_objects.py shows that its handles are taken away."""

from __future__ import annotations

import gc
from typing import Any

import psycopg
import pytest

from django_pooled_pg.pooling.session.statements import CHANGES, NEW_TYPES, UNKNOWN
from django_pooled_pg.pooling.session.use import Use, use_of


@pytest.fixture
def use(connection: psycopg.Connection[Any]) -> Use:
    return use_of(connection)


def test_the_greatest_effect_counts_and_the_first_reason(use: Use) -> None:
    use.note(UNKNOWN)
    assert (use.effect, use.reason) == (UNKNOWN, "")
    use.note_statement("SET x = 1", CHANGES)
    use.note_statement("CREATE TYPE t AS (n int)", NEW_TYPES)
    use.note(UNKNOWN)
    assert (use.effect, use.reason, use.prepared) == (NEW_TYPES, "SET", False)


def test_what_sql_prepares_is_noted(use: Use) -> None:
    use.note_statement("PREPARE plan AS SELECT 1", CHANGES)
    assert use.prepared


def test_each_open_cursor_counts_once(connection: psycopg.Connection[Any], use: Use) -> None:
    first, second = connection.cursor(), connection.cursor()
    assert len(use.open_cursors) == 2
    first.close()
    first.close()
    assert len(use.open_cursors) == 1
    del second
    gc.collect()
    assert use.open_cursors == []


class Watcher:
    calls = 0

    def unused(self) -> None:
        self.calls += 1


def test_the_watcher_is_told_of_the_last_one(connection: psycopg.Connection[Any], use: Use) -> None:
    watcher = Watcher()
    use.watcher = lambda: watcher
    first, second = connection.cursor(), connection.cursor()
    first.close()
    assert watcher.calls == 0
    second.close()
    assert watcher.calls == 1


def test_server_side_cursors_end_without_asking_the_server(
    connection: psycopg.Connection[Any], use: Use
) -> None:
    with connection.transaction():
        cursor = connection.cursor("named")
        cursor.execute("SELECT generate_series(1, 100)")
        use.end_server_cursors()
        assert cursor.closed
        assert not use.server_cursors
        assert use.reason == "DECLARE"
