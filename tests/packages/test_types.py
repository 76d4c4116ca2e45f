"""Types of psycopg, registered on each session by a receiver of `connection_created`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import psycopg
import pytest
from django.db.backends.signals import connection_created
from psycopg.adapt import Dumper
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import connect

Registered = Callable[..., None]


class Size(NamedTuple):
    width: int
    height: int


class Isbn(str):
    __slots__ = ()


class IsbnDumper(Dumper):
    def dump(self, obj: Isbn) -> bytes:
        return obj.replace("-", "").encode()


def register(connection: psycopg.Connection[Any]) -> None:
    size = CompositeInfo.fetch(connection, "book_size")
    if size is None:
        return  # the types aren't there yet
    register_composite(size, connection, factory=Size)
    genre = EnumInfo.fetch(connection, "book_genre")
    assert genre is not None
    register_enum(genre, connection)
    connection.adapters.register_dumper(Isbn, IsbnDumper)


CREATE = [
    "CREATE TYPE book_size AS (width int, height int)",
    "CREATE TYPE book_genre AS ENUM ('NOVEL', 'POEM')",
]


@pytest.fixture
def types(database: dict[str, Any]) -> Iterator[None]:
    with connect(database) as server:
        for statement in CREATE:
            server.execute(statement)
        yield
        server.execute("DROP TYPE book_size, book_genre")


@pytest.fixture
def receive() -> Iterator[Callable[[DatabaseWrapper], list[int]]]:
    """Connect a receiver for a wrapper's alias; returns the sessions it was called for."""
    receivers = []

    def connect_receiver(wrapper: DatabaseWrapper) -> list[int]:
        called: list[int] = []

        def receiver(connection: DatabaseWrapper, **kwargs: Any) -> None:
            if connection.alias == wrapper.alias:
                assert connection.connection is not None
                called.append(connection.connection.info.backend_pid)
                register(connection.connection)

        connection_created.connect(receiver)
        receivers.append(receiver)
        return called

    yield connect_receiver
    for receiver in receivers:
        connection_created.disconnect(receiver)


def read(wrapper: DatabaseWrapper) -> list[Any]:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT %s, '(1,2)'::book_size, 'POEM'::book_genre", [Isbn("3-16-1")])
        isbn, size, genre = cursor.fetchone()
    return [isbn, size, getattr(genre, "name", genre)]


KNOWN = ["3161", Size(1, 2), "POEM"]


def test_new_and_reset_sessions_know_them(make_wrapper: Any, types: None, receive: Any) -> None:
    wrapper = make_wrapper(pool={"max_size": 1}, alias="types_reset")
    called = receive(wrapper)
    for _ in range(3):
        assert read(wrapper) == KNOWN
        wrapper.close()
    assert len(called) == 1
    with wrapper.cursor() as cursor:
        cursor.execute("SET statement_timeout = '50s'")
    wrapper.close()
    assert read(wrapper) == KNOWN
    wrapper.close()
    assert wrapper.pool.statistics().resets == 1
    # It may have set something that the reset took back.
    assert len(called) == 2
    wrapper.pool.drain()
    assert read(wrapper) == KNOWN
    assert len(set(called)) == 2


def test_a_receiver_that_comes_late(make_wrapper: Any, types: None, receive: Any) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    assert read(wrapper) != KNOWN
    wrapper.close()
    called = receive(wrapper)
    assert read(wrapper) == KNOWN
    assert len(called) == 1


def test_the_pools_own_callback_does_as_well(make_wrapper: Any, types: None) -> None:
    calls = itertools.count()

    def configure(connection: psycopg.Connection[Any]) -> None:
        next(calls)
        register(connection)

    wrapper = make_wrapper(pool={"max_size": 1, "configure": configure})
    for _ in range(3):
        assert read(wrapper) == KNOWN
        wrapper.close()
    assert next(calls) == 1


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_sessions_learn_of_a_type_that_is_created(
    make_wrapper: Any, receive: Any, return_at: str
) -> None:
    """Threads and sessions that are older than the type, as after a migration in this process."""
    pool = {"max_size": 3, "return_at": return_at}
    wrapper = make_wrapper(pool=pool, alias=f"types_{return_at}")
    receive(wrapper)
    local, barrier = threading.local(), threading.Barrier(3, timeout=30)

    def ask(_: int, read: Callable[[Any], Any]) -> Any:
        if not hasattr(local, "wrapper"):
            local.wrapper = make_wrapper(pool=pool, alias=wrapper.alias)
        local.wrapper.ensure_connection()
        barrier.wait()
        try:
            return read(local.wrapper)
        finally:
            local.wrapper.close()

    with ThreadPoolExecutor(3) as executor:

        def ask_all(read: Callable[[Any], Any]) -> list[Any]:
            return [each.result() for each in [executor.submit(ask, n, read) for n in range(3)]]

        ask_all(lambda wrapper: None)
        try:
            with wrapper.cursor() as cursor:
                for statement in CREATE:
                    cursor.execute(statement)
            wrapper.close()
            assert ask_all(read) == [KNOWN] * 3
        finally:
            with wrapper.cursor() as cursor:
                cursor.execute("DROP TYPE IF EXISTS book_size, book_genre")
            wrapper.close()
