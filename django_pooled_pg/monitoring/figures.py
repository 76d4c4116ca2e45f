"""Owns arithmetic on pools' figures: totals, differences, percentiles; shows nothing.

A pool is here what a snapshot has of it: the fields of `PoolStatistics` in a dict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from ..pooling.statistics import BOUNDS, PoolStatistics

Pool = dict[str, Any]

_FIELDS = fields(PoolStatistics)
_BUCKETS = tuple(field.name for field in _FIELDS if field.name.endswith("_buckets"))
_MAXIMA = ("wait_max", "held_max", "connect_max", "timeout")
GAUGES = ("min_size", "max_size", "timeout", "size", "in_use", "idle", "waiting")
"""The numbers that are of the moment; all others run from the start of the process."""
_SUMS = tuple(
    field.name for field in _FIELDS if field.type in ("int", "float") and field.name not in _MAXIMA
)


def total(pools: Sequence[Pool]) -> Pool:
    """Add the figures of several pools up; the texts are those of the first."""
    added = dict(pools[0])
    for name in _SUMS:
        added[name] = sum(pool[name] for pool in pools)
    for name in _MAXIMA:
        added[name] = max(pool[name] for pool in pools)
    for name in _BUCKETS:
        added[name] = [sum(column) for column in zip(*(pool[name] for pool in pools), strict=True)]
    added["paused"] = any(pool["paused"] for pool in pools)
    return added


def by_name(pools: Iterable[Pool]) -> list[Pool]:
    """Add up those of one alias and name, whose settings differ otherwise.

    For those who have nothing else to tell them apart by.
    """
    named: dict[tuple[str, str], list[Pool]] = {}
    for pool in pools:
        named.setdefault((pool["alias"], pool["name"]), []).append(pool)
    return [total(each) for each in named.values()]


def since(before: Pool | None, now: Pool) -> Pool:
    """Return what happened between two looks at one pool; gauges are those of `now`.

    A maximum is that of the interval's histogram: the upper bound of its last bucket, or the
    longest ever if that is less. With a process that was started anew, or `None`, it is all that
    happened since its start.
    """
    if before is None or now["returns"] < before["returns"]:
        return now
    between = dict(now)
    for name in _SUMS:
        if name not in GAUGES:
            between[name] = max(0, now[name] - before[name])
    for name in _BUCKETS:
        between[name] = [max(0, b - a) for a, b in zip(before[name], now[name], strict=True)]
        longest = name.replace("_buckets", "_max")
        between[longest] = percentile(between[name], 1.0, now[longest]) or 0.0
    return between


def percentile(buckets: Sequence[int], fraction: float, longest: float) -> float | None:
    """Return the duration, in seconds, that `fraction` of all did not exceed; `None` of none.

    Within a bucket of `BOUNDS` all are taken as evenly spread; `longest` is the longest of all.
    """
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
