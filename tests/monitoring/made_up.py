"""Made-up snapshots of pools, as processes send them."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from django_pooled_pg.monitoring.report import ProcessReport
from django_pooled_pg.pooling.counters import Durations, bucket_of, empty_buckets
from django_pooled_pg.pooling.statistics import DURATIONS, PoolStatistics


def buckets(*seconds: float) -> list[int]:
    """A histogram of these durations."""
    counted = empty_buckets()
    for each in seconds:
        counted[bucket_of(each)] += 1
    return counted


def durations(*seconds: float) -> dict[str, Any]:
    """What is told of these durations."""
    return asdict(Durations(sum(seconds), max(seconds, default=0.0), buckets(*seconds)))


def pool(alias: str = "default", **figures: Any) -> dict[str, Any]:
    """The figures of one pool: those given, else nothing happened.

    `wait_max` and the like are those within `wait`, `held` and `connect`.
    """
    nothing: dict[str, Any] = {field.name: 0 for field in fields(PoolStatistics)}
    for of in DURATIONS:
        given = {part: figures.pop(f"{of}_{part}", None) for part in ("total", "max", "buckets")}
        nothing[of] = Durations(**{part: each for part, each in given.items() if each is not None})
    usual = {
        "alias": alias,
        "name": alias,
        "pool_class": "pool",
        "return_at": "request",
        "paused": False,
        "timeout": 10.0,
        "min_size": 1,
        "max_size": 10,
    }
    return asdict(PoolStatistics(**{**nothing, **usual, **figures}))


def report(
    pid: int,
    *pools: dict[str, Any],
    holders: list[dict[str, Any]] | None = None,
    process: str = "gunicorn",
) -> ProcessReport:
    """What a process says that has these pools."""
    snapshot = snapshot_of(pid) | {"process": process, "pools": list(pools)}
    return ProcessReport(pid=pid, snapshot=snapshot | {"holders": holders or []})


def snapshot_of(pid: int) -> dict[str, Any]:
    """What a process answers that has a pool with nothing to tell."""
    return {
        "version": 1,
        "pid": pid,
        "parent_pid": 1,
        "process": "gunicorn",
        "started": 1000.5,
        "pools": [pool()],
        "holders": [],
    }


def silent(pid: int = 13) -> ProcessReport:
    """What is known of a process that did not answer."""
    return ProcessReport(pid=pid, error="no answer within 1 s")
