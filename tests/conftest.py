"""Fixtures for all tests: wrappers with pools of their own."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.process.borrowers import borrower
from django_pooled_pg.pooling.work.work import current
from django_pooled_pg.request_scope import leave
from tests.support.waiting import wait_until

# Shells start what runs in the background with SIGINT ignored, and the programs that tests start
# and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count()

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def database(django_db_setup: None) -> dict[str, Any]:
    """Settings of the test database, with nothing in OPTIONS."""
    return {**registry.snapshot(connection.settings_dict), "OPTIONS": {}}


@pytest.fixture(scope="session", autouse=True)
def nothing_left(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """When all tests are done, no session is left but those of the test database's own pool."""
    yield
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        connection.close()
        connection.close_pool()
        name = connection.settings_dict["NAME"]

        def left() -> list[Any]:
            sql = "SELECT pid, application_name, state, query FROM pg_stat_activity WHERE datname = %s"
            cursor.execute(sql, [name])
            rows: list[Any] = cursor.fetchall()
            return rows

        try:
            wait_until(lambda: not left(), within=20)
        except AssertionError:
            pools = [(pool, pool.leases(), pool.strays.find()) for pool in registry.pools()]
            pytest.fail(f"sessions are left: {left()}; pools: {pools}")


@pytest.fixture(autouse=True)
def outside_of_requests() -> None:
    """Each test begins there. Django's test client ends no request that it raises an error of."""
    leave(borrower())
    assert current() is None, "a test before has left work open"


@pytest.fixture
def make_wrapper(database: dict[str, Any], django_db_blocker: Any) -> Iterator[MakeWrapper]:
    """Make wrappers: `make_wrapper(pool={...}, OPTIONS={...}, alias="a", TIME_ZONE=...)`.

    Each call has an alias, and so a pool, of its own unless `alias` is given.
    """
    made: list[DatabaseWrapper] = []

    def make(pool: Any = None, alias: str = "", **changes: Any) -> DatabaseWrapper:
        settings = {**database, **changes}
        if pool is not None:
            settings["OPTIONS"] = {**settings["OPTIONS"], "pool": pool}
        wrapper = DatabaseWrapper(settings, alias or f"test{next(_numbers)}")
        made.append(wrapper)
        return wrapper

    with django_db_blocker.unblock():
        yield make
        for wrapper in made:
            wrapper.inc_thread_sharing()  # it may belong to a thread that has ended
            wrapper.in_atomic_block = False
            wrapper.close()
            wrapper.close_pool()
