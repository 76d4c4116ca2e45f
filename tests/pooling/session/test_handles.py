"""What handles are; tests/faults/test_kept_objects.py shows that they are useless later."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from django_pooled_pg.pooling.session.handles import (
    _handle_classes,
    remember_with_handles,
    with_handle,
)
from django_pooled_pg.pooling.session.use import Use, use_of
from django_pooled_pg.pooling.work.stops import Stops
from tests.support.queries import connect


class Special(psycopg.Connection[Any]):
    def hello(self) -> str:
        return "hello"


def test_they_are_of_the_connections_class() -> None:
    for handle in _handle_classes(Special):
        assert issubclass(handle, Special)
        assert handle.__name__ == "Special"
        assert handle.__module__ == Special.__module__


def test_their_classes_are_made_once() -> None:
    assert _handle_classes(Special) is _handle_classes(Special)


def test_they_share_what_the_connection_has(connection: psycopg.Connection[Any]) -> None:
    use = use_of(connection)
    assert use.raw is connection
    assert use.quick.__dict__ is connection.__dict__
    assert connection.info.backend_pid == use.quick.info.backend_pid


def test_an_attribute_that_is_not_there(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(AttributeError, match="'Connection' object has no attribute 'nothing'"):
        connection.nothing  # type: ignore[attr-defined] # noqa: B018


def test_a_callback_has_its_own_for_as_long_as_it_runs(database: dict[str, Any]) -> None:
    kept = []

    def callback(handle: psycopg.Connection[Any]) -> None:
        kept.append(handle)
        assert handle.execute("SELECT 1").fetchone() == (1,)
        raise RuntimeError("no")

    with connect(database) as connection:
        before = Use(remember_with_handles(connection, Stops("test")))
        with pytest.raises(RuntimeError):
            with_handle(connection, callback)
        assert use_of(connection) is before
        assert before.raw.execute("SELECT 2").fetchone() == (2,)
        with pytest.raises(psycopg.InterfaceError, match="returned to its pool"):
            kept[0].execute("SELECT 1")
