"""Pools, and an observer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.pool import Pool
from tests.pooling.supply.common import (
    LONG,
    MakePool,
    MakeWrapper,
)


@pytest.fixture
def make_pool(make_wrapper: MakeWrapper) -> Iterator[MakePool]:
    made: list[Pool] = []

    def make(**options: Any) -> Pool:
        pool = make_wrapper({"timeout": LONG, **options}).pool
        assert pool is not None
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.resume()
        for lease in pool.leases():
            pool.give_back(lease)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture
def bystander(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    """Asks the server about others' sessions, over a pool of its own."""
    return make_wrapper()
