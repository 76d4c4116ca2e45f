"""Arithmetic on pools' figures: totals, differences, percentiles; shows nothing.

A pool here is what a snapshot has of it: a dict with the fields of `PoolStatistics`, in which
those of `Durations` are dicts, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..pooling.counters import BOUNDS
from ..pooling.statistics import COUNTERS, DURATIONS, GAUGES

Pool = dict[str, Any]


def total(pools: Sequence[Pool]) -> Pool:
    """Add up the figures of several pools; texts are those of the first.

    They share one budget: the smallest if settings differ; 0 if one has none.
    """
    added = dict(pools[0])
    for name in (*GAUGES, *COUNTERS):
        added[name] = sum(pool[name] for pool in pools)
    for name in DURATIONS:
        parts = [pool[name] for pool in pools]
        added[name] = {
            "total": sum(part["total"] for part in parts),
            "max": max(part["max"] for part in parts),
            "buckets": [sum(n) for n in zip(*(part["buckets"] for part in parts), strict=True)],
        }
    added["timeout"] = max(pool["timeout"] for pool in pools)
    added["budget"] = min(pool["budget"] for pool in pools)
    added["paused"] = any(pool["paused"] for pool in pools)
    return added


def by_name(pools: Iterable[Pool]) -> list[Pool]:
    """Add up the pools of one alias and name, even if their other settings differ.

    For output that can't tell them apart by anything else.
    """
    named: dict[tuple[str, str], list[Pool]] = {}
    for pool in pools:
        named.setdefault((pool["alias"], pool["name"]), []).append(pool)
    return [total(each) for each in named.values()]


def since(before: Pool | None, now: Pool) -> Pool:
    """Return what happened between two looks at one pool; gauges are those of `now`.

    A maximum comes from the interval's histogram: the upper bound of its last bucket, or the
    longest time ever if that is less. If the process was restarted, or `before` is `None`, the
    figures run from the start.
    """
    if before is None or now["returns"] < before["returns"]:
        return now
    between = dict(now)
    for name in COUNTERS:
        between[name] = max(0, now[name] - before[name])
    for name in DURATIONS:
        then, later = before[name], now[name]
        counts = zip(then["buckets"], later["buckets"], strict=True)
        between[name] = part = {
            "total": max(0, later["total"] - then["total"]),
            "max": later["max"],
            "buckets": [max(0, b - a) for a, b in counts],
        }
        part["max"] = percentile(part, 1.0) or 0.0
    return between


def percentile(durations: Mapping[str, Any], fraction: float) -> float | None:
    """Return the duration, in seconds, that `fraction` of all did not exceed; `None` without any.

    Values within a bucket of `BOUNDS` count as evenly spread.
    """
    buckets: Sequence[int] = durations["buckets"]
    longest: float = durations["max"]
    count = sum(buckets)
    if not count:
        return None
    wanted = fraction * count
    below = 0
    for number, inside in enumerate(buckets):
        if inside and below + inside >= wanted:
            low = BOUNDS[number - 1] if number else 0.0
            high = min(BOUNDS[number], longest) if number < len(BOUNDS) else longest
            return low + max(0.0, high - low) * (wanted - below) / inside
        below += inside
    return longest
