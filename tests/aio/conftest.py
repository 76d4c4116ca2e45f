"""Aliases whose pools tasks borrow from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connections

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.pool import Pool
from tests.conftest import MakeWrapper
from tests.support.waiting import wait_until

MakeAlias = Callable[..., DatabaseWrapper]


@pytest.fixture
def make_alias(make_wrapper: MakeWrapper) -> Iterator[MakeAlias]:
    """Make wrappers as `make_wrapper` does, whose aliases `django.db.connections` knows."""
    made: list[str] = []

    def make(*args: Any, **changes: Any) -> DatabaseWrapper:
        wrapper = make_wrapper(*args, **changes)
        connections.settings[wrapper.alias] = wrapper.settings_dict
        connections[wrapper.alias] = wrapper
        made.append(wrapper.alias)
        return wrapper

    yield make
    for alias in made:
        del connections.settings[alias]
        del connections[alias]


def pool_of(wrapper: DatabaseWrapper) -> Pool:
    """Return its pool."""
    assert wrapper.pool is not None
    return wrapper.pool


async def fetch(connection: psycopg.AsyncConnection[Any], sql: str) -> list[Any]:
    """Return all rows."""
    return await (await connection.execute(sql)).fetchall()


async def pid_of(connection: psycopg.AsyncConnection[Any]) -> int:
    """Return the server process that the connection's session has."""
    return int((await fetch(connection, "SELECT pg_backend_pid()"))[0][0])


def idle(pool: Pool, within: float = 5.0) -> None:
    """Wait until all connections that the pool has are idle."""

    def is_idle() -> bool:
        figures = pool.statistics()
        return figures.in_use == figures.waiting == 0 and figures.idle == figures.size

    wait_until(is_idle, within, message=f"{pool!r} isn't idle")
    assert pool.strays.find() == {}
