from __future__ import annotations

import random

import pytest

from django_pooled_pg.monitoring.figures import percentile, since, total
from django_pooled_pg.pooling.counters import BOUNDS
from django_pooled_pg.pooling.statistics import GAUGES
from tests.monitoring.made_up import buckets, durations, pool


def test_total_adds_numbers_and_histograms_and_takes_the_greatest_maximum() -> None:
    one = pool(size=2, borrows=3, wait_max=0.5, wait_buckets=buckets(0.5), timeout=5.0)
    other = pool(size=1, borrows=4, wait_max=0.2, wait_buckets=buckets(0.5, 0.2), timeout=10.0)
    added = total([one, other])
    assert (added["size"], added["borrows"], added["max_size"]) == (3, 7, 20)
    assert (added["wait"]["max"], added["timeout"]) == (0.5, 10.0)
    assert added["wait"]["buckets"] == buckets(0.5, 0.5, 0.2)
    assert one["borrows"] == 3


def test_total_is_paused_if_one_is() -> None:
    assert total([pool(), pool(paused=True)])["paused"] is True
    assert total([pool(), pool()])["paused"] is False


def test_since_is_the_difference_but_for_gauges() -> None:
    before = pool(size=5, in_use=1, borrows=10, returns=9, held_total=1.0)
    now = pool(size=4, in_use=3, borrows=25, returns=22, held_total=2.5)
    between = since(before, now)
    assert (between["borrows"], between["returns"], between["held"]["total"]) == (15, 13, 1.5)
    assert (between["size"], between["in_use"]) == (4, 3)
    assert {name: between[name] for name in GAUGES} == {name: now[name] for name in GAUGES}


def test_since_knows_no_longer_maximum_than_its_histogram() -> None:
    before = pool(wait_buckets=buckets(30.0), wait_max=30.0)
    now = pool(wait_buckets=buckets(30.0, 0.003), wait_max=30.0)
    assert since(before, now)["wait"]["buckets"] == buckets(0.003)
    assert since(before, now)["wait"]["max"] == 0.005  # its bucket's upper bound
    assert since(now, now)["wait"]["max"] == 0.0


def test_since_nothing_or_another_start_is_everything() -> None:
    now = pool(returns=3)
    assert since(None, now) == now
    assert since(pool(returns=4), now) == now


def test_percentile_of_nothing() -> None:
    assert percentile(durations(), 0.5) is None


@pytest.mark.parametrize(("fraction", "seconds"), [(0.5, 0.005), (0.25, 0.0035), (1.0, 0.8)])
def test_percentile_spreads_evenly_within_a_bucket(fraction: float, seconds: float) -> None:
    assert percentile(durations(0.004, 0.004, 0.6, 0.8), fraction) == pytest.approx(seconds)


def test_percentile_is_never_above_the_longest() -> None:
    assert percentile(durations(0.021), 0.99) <= 0.021  # type: ignore[operator]
    assert percentile(durations(100.0, 300.0), 1.0) == 300.0


def test_percentile_is_within_a_bucket_of_the_truth() -> None:
    chosen = random.Random(4)
    seconds = sorted(chosen.lognormvariate(-4, 2) for _ in range(500))
    for fraction in (0.5, 0.95, 0.99):
        truth = seconds[int(fraction * 500) - 1]
        low = max((bound for bound in BOUNDS if bound < truth), default=0.0)
        high = min((bound for bound in BOUNDS if bound >= truth), default=seconds[-1])
        found = percentile(durations(*seconds), fraction)
        assert found is not None
        assert low <= found <= high
