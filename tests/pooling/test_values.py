"""Values that can't work are refused by name; the largest accepted ones work on a real pool."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.values import _SIZES, _TIMES, _YEAR
from tests.conftest import MakeWrapper
from tests.support.queries import fetch
from tests.support.waiting import wait_until


def refused(key: str, value: Any) -> str:
    with pytest.raises(ImproperlyConfigured) as caught:
        PoolConfig.from_settings("default", {"OPTIONS": {"pool": {key: value}}})
    return str(caught.value)


@pytest.mark.parametrize("key", _TIMES)
@pytest.mark.parametrize(
    "value",
    [
        math.inf,
        -math.inf,
        math.nan,
        1e10,
        _YEAR + 1,
        pytest.param(10**5000, id="huge"),
        -1,
        "x",
        True,
    ],
)
def test_times_that_can_not_be_waited_for_are_refused_by_name(key: str, value: Any) -> None:
    said = refused(key, value)
    assert said.startswith(f"DATABASES['default']['OPTIONS']['pool']['{key}'] is ")
    assert "at most 31536000 (a year, which is as good as never)" in said


@pytest.mark.parametrize("key", [key for key, least in _TIMES.items() if least])
def test_times_that_would_keep_the_processor_busy_are_refused(key: str) -> None:
    """A `max_idle` or `leak_threshold` of nothing kept a thread going round."""
    assert f"at least {_TIMES[key]:g}" in refused(key, 1e-9)


@pytest.mark.parametrize("key", _SIZES)
@pytest.mark.parametrize(
    "value", [10**10, pytest.param(10**5000, id="huge"), -1, 1.5, math.inf, True, "x"]
)
def test_sizes_that_are_not_possible_are_refused_by_name(key: str, value: Any) -> None:
    said = refused(key, value)
    assert said.startswith(f"DATABASES['default']['OPTIONS']['pool']['{key}'] is ")
    assert f"at most {_SIZES[key][1]}" in said


def test_a_million_workers_are_refused() -> None:
    assert "at most 1000" in refused("num_workers", 10**6)


@pytest.mark.parametrize("key", _TIMES)
@pytest.mark.parametrize("end", ["least", "most"])
def test_the_least_and_the_longest_times_work(
    make_wrapper: MakeWrapper, key: str, end: str
) -> None:
    value = max(_TIMES[key], 0.001) if end == "least" else _YEAR
    wrapper = make_wrapper(pool={"max_size": 2, key: value})
    assert wrapper.pool is not None
    if value == 0.001:
        with suppress(OperationalError):  # shorter than a connect
            wrapper.ensure_connection()
        wrapper.pool.open()
    else:
        assert fetch(wrapper, "SELECT 1") == 1
    wrapper.close()
    backing = wrapper.pool.ledger.backing
    assert backing is not None
    assert backing._sched_runner.is_alive()
    # One that was just hired is among them before it starts.
    wait_until(lambda: all(worker.is_alive() for worker in backing._workers))


# Not min_size: it would take the server's last connection.
@pytest.mark.parametrize("key", ["max_size", "max_waiting", "num_workers"])
def test_the_largest_sizes_work(make_wrapper: MakeWrapper, key: str) -> None:
    wrapper = make_wrapper(pool={key: _SIZES[key][1]})
    assert fetch(wrapper, "SELECT 1") == 1


def test_who_waits_for_a_year_is_still_told_that_the_server_is_away(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper(pool={"timeout": _YEAR}, HOST="127.0.0.1", PORT="1")
    with pytest.raises(OperationalError, match="refused"):
        wrapper.cursor()
