"""A pool's regular chores; for reclaiming and leaks, see `tests/faults/test_leases.py`."""

from __future__ import annotations

import threading

import pytest

from django_pooled_pg.pooling import housekeeping
from tests.conftest import MakeWrapper
from tests.support.waiting import wait_until


def test_a_reset_that_hangs_is_named_once(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "LONG_RESET", 0.0)
    go_on = threading.Event()

    def reset(connection: object) -> None:
        go_on.wait(20)

    pool = make_wrapper(pool={"max_size": 1, "reset": reset}, alias="hanging").pool
    assert pool is not None
    pool.give_back(pool.borrow())
    try:
        wait_until(lambda: pool.look_after() is not None and "has run for" in caplog.text)
        pool.look_after()
        assert (
            caplog.text.count("Pool 'hanging': 'reset', or 'configure' after it, has run for") == 1
        )
    finally:
        go_on.set()
    wait_until(lambda: pool.statistics().idle == 1)
