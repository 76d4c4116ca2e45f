"""A connection goes back with the last open cursor."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from django.db import models, transaction

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import (
    held,
    in_thread,
    statistics,
)
from tests.support.queries import backend_pid, fetch


class Type(models.Model):
    """PostgreSQL's own: there are hundreds in each database."""

    oid = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "catalog"
        db_table = "pg_type"
        managed = False

    def __str__(self) -> str:
        return str(self.oid)


def test_a_cursor_that_is_open_keeps_it(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    assert held(wrapper) == 1
    cursor.execute("SELECT generate_series(1, 3)")
    backend_pid(wrapper)
    assert held(wrapper) == 1
    assert cursor.fetchall() == [(1,), (2,), (3,)]
    assert held(wrapper) == 1
    cursor.close()
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_stays_open_after_a_transaction_keeps_it(wrapper: DatabaseWrapper) -> None:
    before = wrapper.cursor()
    before.execute("SELECT 42")
    with transaction.atomic(using=wrapper.alias):
        inside = wrapper.cursor()
    assert held(wrapper) == 1
    inside.execute("SELECT 43")
    inside.close()
    assert held(wrapper) == 1
    assert before.fetchone() == (42,)
    before.close()
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_is_collected_when_a_transaction_begins_does_not_return_it(
    wrapper: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors = [wrapper.cursor()]
    switch = wrapper._set_autocommit

    def collect_and_switch(autocommit: bool) -> None:
        cursors.clear()
        switch(autocommit)

    monkeypatch.setattr(wrapper, "_set_autocommit", collect_and_switch)
    with transaction.atomic(using=wrapper.alias):
        assert backend_pid(wrapper)
        assert held(wrapper) == 1
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_the_last_of_several_cursors_returns_it(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as outer, wrapper.cursor() as inner:
        inner.execute("SELECT 1")
        inner.close()
        assert held(wrapper) == 1
        outer.execute("SELECT 1")
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_is_dropped_returns_it(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    del cursor
    assert held(wrapper) == 0
    wrapper.cursor().execute("SELECT 1")
    assert held(wrapper) == 0


def test_a_cursor_in_a_cycle_returns_it_when_it_is_collected(wrapper: DatabaseWrapper) -> None:
    cycle: list[Any] = [wrapper.cursor()]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert held(wrapper) == 1
        gc.collect()
        assert held(wrapper) == 0
    finally:
        gc.enable()
    assert backend_pid(wrapper)


def test_a_cursor_collected_in_the_midst_of_a_borrow_blocks_nothing(
    wrapper: DatabaseWrapper,
) -> None:
    """The garbage collector may run while its thread holds the locks of the same pool."""
    cycle: list[Any] = [wrapper.cursor()]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert wrapper.pool is not None
        assert wrapper.pool.ledger.backing is not None
        with wrapper.pool.ledger.lock, wrapper.pool.ledger.backing._lock:
            gc.collect()
        assert held(wrapper) == 0
    finally:
        gc.enable()


def test_a_cursor_that_another_thread_closes_does_not_return_it(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    in_thread(cursor.close)
    assert held(wrapper) == 1
    backend_pid(wrapper)
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_cursor_that_another_thread_drops_does_not_return_it(wrapper: DatabaseWrapper) -> None:
    cursors = [wrapper.cursor()]
    in_thread(cursors.clear)
    assert held(wrapper) == 1
    backend_pid(wrapper)
    assert held(wrapper) == 0


def test_a_cursor_that_outlives_a_close_has_no_part_in_the_next_borrow(
    wrapper: DatabaseWrapper,
) -> None:
    old = wrapper.cursor()
    wrapper.close()
    new = wrapper.cursor()
    old.close()
    assert held(wrapper) == 1
    new.execute("SELECT 1")
    new.close()
    assert held(wrapper) == 0


def test_reading_from_the_server_bit_by_bit_keeps_it_to_the_end(wrapper: DatabaseWrapper) -> None:
    types = Type.objects.using(wrapper.alias)
    rows = types.iterator(chunk_size=2)
    first = next(rows)
    assert held(wrapper) == 1
    assert {first, *rows} == set(types)
    assert held(wrapper) == 0


def test_reading_that_is_given_up_halfway_returns_it(wrapper: DatabaseWrapper) -> None:
    types = Type.objects.using(wrapper.alias)
    rows = types.iterator(chunk_size=2)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert held(wrapper) == 0
    for _ in types.iterator(chunk_size=2):
        break
    assert held(wrapper) == 0
    assert statistics(wrapper).pinned == 0


def test_reading_in_a_transaction_leaves_it_to_the_transaction(wrapper: DatabaseWrapper) -> None:
    types = Type.objects.using(wrapper.alias)
    with transaction.atomic(using=wrapper.alias):
        assert len(list(types.iterator(chunk_size=2))) == types.count()
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_a_server_side_cursor_keeps_it_until_closed(wrapper: DatabaseWrapper) -> None:
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5000)")
    assert len(cursor.fetchmany(10)) == 10
    backend_pid(wrapper)
    assert held(wrapper) == 1
    assert cursor.fetchone() == (11,)
    cursor.close()
    assert held(wrapper) == 0


def test_a_server_side_cursor_that_is_dropped_gives_it_back_at_the_latest_with_close(
    wrapper: DatabaseWrapper,
) -> None:
    """On the server it is open for good: nobody else may have that session before a reset."""
    pid = backend_pid(wrapper)
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5000)")
    del cursor
    assert held(wrapper) == 1
    wrapper.close()
    assert held(wrapper) == 0
    assert fetch(wrapper, "SELECT count(*) FROM pg_cursors WHERE is_holdable") == 0
    assert backend_pid(wrapper) == pid
