from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.connector import SessionMaker
from django_pooled_pg.pooling.pool import Pool

_numbers = itertools.count()


@pytest.fixture
def alias() -> str:
    return f"registry{next(_numbers)}"


def session_maker(settings: Any, config: Any) -> Any:
    def connect(*args: Any) -> Any:
        raise AssertionError("nobody connects here")

    return SessionMaker(connect, connect)


def settings(**pool: Any) -> dict[str, Any]:
    return {"NAME": "books", "OPTIONS": {"pool": pool}}


def test_equal_settings_share_a_pool(alias: str) -> None:
    pool = registry.pool_for(alias, settings(), session_maker)
    assert isinstance(pool, Pool)
    assert registry.pool_for(alias, settings(), session_maker) is pool
    assert registry.pool_for(alias, settings(max_size=2), session_maker) is not pool
    assert pool in registry.pools()


def test_what_packages_put_into_the_settings_makes_no_pool_of_its_own(alias: str) -> None:
    """django-tenants notes the schema of each request there."""
    source = settings()
    pool = registry.pool_for(alias, source, session_maker)
    source["SCHEMA"] = "tenant_b"
    assert registry.pool_for(alias, source, session_maker) is pool


def test_many_threads_at_once_make_one_pool(alias: str) -> None:
    barrier = threading.Barrier(8)

    def find(_: int) -> Pool | None:
        barrier.wait(5)
        return registry.pool_for(alias, settings(), session_maker)

    with ThreadPoolExecutor(8) as executor:
        pools = set(executor.map(find, range(8)))
    assert len(pools) == 1


def test_settings_changed_in_place_have_a_pool_of_their_own(alias: str) -> None:
    source = settings()
    first = registry.pool_for(alias, source, session_maker)
    source["NAME"] = "test_books"
    second = registry.pool_for(alias, source, session_maker)
    assert second is not first
    source["NAME"] = "books"
    assert registry.pool_for(alias, source, session_maker) is first
    assert {first, second} <= set(registry.pools())


def test_no_pool_where_the_settings_say_so(alias: str) -> None:
    assert registry.pool_for(alias, {"OPTIONS": {"pool": False}}, session_maker) is None


def test_bad_settings_leave_nothing_behind(alias: str) -> None:
    before = registry.pools()
    with pytest.raises(ImproperlyConfigured):
        registry.pool_for(alias, settings(maxsize=2), session_maker)
    assert registry.pools() == before


def test_closing_an_alias_nobody_knows_is_fine() -> None:
    registry.close("nobody")


def test_a_snapshot_notices_changes_inside() -> None:
    source = settings(max_size=2)
    copy = registry.snapshot(source)
    assert copy == source
    source["OPTIONS"]["pool"]["max_size"] = 3
    assert copy != source
