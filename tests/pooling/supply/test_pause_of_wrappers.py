"""Requests wait during a pause, and go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from django_pooled_pg.base import DatabaseWrapper
from tests.pooling.supply.common import (
    LONG,
    MakeWrapper,
    alive,
    both_kinds,
    waiting,
)
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until


@pytest.mark.parametrize("return_at", ["request", "transaction"])
@both_kinds
def test_wrappers_wait_and_go_on(
    make_wrapper: MakeWrapper,
    executor: ThreadPoolExecutor,
    bystander: DatabaseWrapper,
    return_at: str,
    kind: dict[str, Any],
) -> None:
    wrapper = make_wrapper({"timeout": LONG, "return_at": return_at, **kind}, alias="paused")
    other = make_wrapper({"timeout": LONG, "return_at": return_at, **kind}, alias="paused")
    pool = wrapper.pool
    assert pool is not None
    assert other.pool is pool
    if return_at == "request":
        hold(wrapper)  # as in a request
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (before,) = cursor.fetchone()
        pool.pause()
        # In the midst of its work: it goes on with the same session.
        assert fetch(wrapper, "SELECT pg_backend_pid()") == before
    if return_at == "request":
        assert backend_pid(wrapper) == before
        wrapper.close()
    wait_until(lambda: not alive(bystander, [before]))

    def request() -> int:
        try:
            return backend_pid(other)
        finally:
            other.close()

    other.inc_thread_sharing()
    asked = executor.submit(request)
    waiting(pool, 1)
    pool.resume()
    assert asked.result(5) != before
    assert pool.statistics().in_use == 0
