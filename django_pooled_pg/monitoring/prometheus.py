"""Owns what Prometheus is told: one table of metrics, as text and as a collector."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from ..pooling.statistics import BOUNDS
from . import client
from .figures import Pool, by_name
from .report import ProcessReport
from .runtime_dir import RuntimeDirError

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric
    from prometheus_client.registry import Collector
else:
    # The library is needed by those who register the collector, and asks for its methods only.
    Collector = object

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of what `exposition` returns."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a pool.

    `fields` are those of `PoolStatistics` that it comes from: several, if it has a label `state`
    with their names. A histogram is made of the fields `<field>_buckets` and `<field>_total`.
    """

    name: str
    kind: str
    help: str
    fields: tuple[str, ...]


POOL_METRICS = (
    Metric(
        "pooled_pg_connections",
        "gauge",
        "Connections by state; those being made or cleaned are in none.",
        ("idle", "in_use"),
    ),
    Metric(
        "pooled_pg_connections_open",
        "gauge",
        "Connections the pool has or is making.",
        ("size",),
    ),
    Metric("pooled_pg_connections_max", "gauge", "The pool's max_size.", ("max_size",)),
    Metric("pooled_pg_connections_min", "gauge", "The pool's min_size.", ("min_size",)),
    Metric("pooled_pg_waiting", "gauge", "Borrowers that wait for a connection.", ("waiting",)),
    Metric("pooled_pg_paused", "gauge", "Whether the pool is paused: 1 or 0.", ("paused",)),
    Metric(
        "pooled_pg_timeout_seconds",
        "gauge",
        "How long a borrower waits at most.",
        ("timeout",),
    ),
    Metric("pooled_pg_borrows_total", "counter", "Connections lent.", ("borrows",)),
    Metric(
        "pooled_pg_exhausted_total",
        "counter",
        "Borrowers turned away: no connection within the timeout.",
        ("exhausted",),
    ),
    Metric(
        "pooled_pg_reclaimed_total",
        "counter",
        "Connections taken back from borrowers that were gone.",
        ("reclaimed",),
    ),
    Metric(
        "pooled_pg_pinned_total",
        "counter",
        "Borrows kept to the end of the request because the session held state.",
        ("pinned",),
    ),
    Metric("pooled_pg_dead_total", "counter", "Dead connections found.", ("dead",)),
    Metric("pooled_pg_resets_total", "counter", "Sessions reset after a return.", ("resets",)),
    Metric(
        "pooled_pg_connects_total",
        "counter",
        "Attempts to open a server session.",
        ("connects",),
    ),
    Metric(
        "pooled_pg_connect_errors_total",
        "counter",
        "Attempts to open a server session that failed.",
        ("connect_errors",),
    ),
    Metric(
        "pooled_pg_worked_seconds_total",
        "counter",
        "Of the time held, what statements took.",
        ("worked_total",),
    ),
    Metric(
        "pooled_pg_wait_seconds",
        "histogram",
        "How long borrowers waited for their connection.",
        ("wait",),
    ),
    Metric(
        "pooled_pg_held_seconds",
        "histogram",
        "How long connections were held, of those returned.",
        ("held",),
    ),
    Metric(
        "pooled_pg_connect_seconds",
        "histogram",
        "How long it took to open a server session.",
        ("connect",),
    ),
)

PROCESS_UP = Metric(
    "pooled_pg_process_up", "gauge", "Whether the process answered in time: 1 or 0.", ()
)

METRICS = (PROCESS_UP, *POOL_METRICS)
"""All that is exported, in this order."""


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class _Family:
    metric: Metric
    samples: list[_Sample] = field(default_factory=list)


def exposition(reports: Sequence[ProcessReport], database: str | None = None) -> str:
    """Return the processes' figures in Prometheus' text format, version 0.0.4.

    With `database`, pools of that alias only. `CONTENT_TYPE` is the fitting content type.
    """
    return "".join(line + "\n" for family in _families(reports, database) for line in _text(family))


class PooledPgCollector(Collector):
    """Tells `prometheus_client` the figures of all live processes: `registry.register(...)`.

    Each scrape asks them anew, for `timeout` seconds at most.
    """

    def __init__(self, timeout: float = 1.0) -> None:
        self.timeout = timeout

    def describe(self) -> Iterable[ClientMetric]:
        """Name the metrics: `register` asks nobody then."""
        return [_for_client(_Family(metric)) for metric in METRICS]

    def collect(self) -> Iterable[ClientMetric]:
        """Ask all live processes of this project. Where that can't be done, it is logged."""
        try:
            reports = client.collect(self.timeout)
        except RuntimeDirError as ex:
            # The registry has others' metrics too: they must not get lost with ours.
            logger.error("No figures of pools for Prometheus: %s", ex)
            reports = []
        return [_for_client(family) for family in _families(reports, None)]


def _families(reports: Sequence[ProcessReport], database: str | None) -> list[_Family]:
    up = _Family(PROCESS_UP)
    families = [_Family(metric) for metric in POOL_METRICS]
    for report in reports:
        answered = report.snapshot is not None
        # Nothing else is known of a process that is silent: its series must go on all the same.
        up.samples.append(_Sample(PROCESS_UP.name, {"pid": str(report.pid)}, int(answered)))
        if report.snapshot is None:
            continue
        of_process = {"process": _text_of(report.snapshot["process"]), "pid": str(report.pid)}
        # Two series with the same labels would let the scrape fail.
        for pool in by_name(report.pools(database)):
            labels = {"alias": _text_of(pool["alias"]), "pool": _text_of(pool["name"])} | of_process
            for family in families:
                family.samples.extend(_samples(family.metric, labels, pool))
    return [up, *families]


def _samples(metric: Metric, labels: dict[str, str], pool: Pool) -> Iterator[_Sample]:
    if metric.kind == "histogram":
        yield from _histogram(metric, labels, pool)
    elif len(metric.fields) == 1:
        yield _Sample(metric.name, labels, pool[metric.fields[0]])
    else:
        for state in metric.fields:
            yield _Sample(metric.name, {**labels, "state": state}, pool[state])


def _histogram(metric: Metric, labels: dict[str, str], pool: Pool) -> Iterator[_Sample]:
    (name,) = metric.fields
    counted = list(accumulate(pool[f"{name}_buckets"]))
    for bound, count in zip((*BOUNDS, "+Inf"), counted, strict=True):
        yield _Sample(f"{metric.name}_bucket", {**labels, "le": str(bound)}, count)
    yield _Sample(f"{metric.name}_sum", labels, pool[f"{name}_total"])
    yield _Sample(f"{metric.name}_count", labels, counted[-1])


def _text_of(name: str) -> str:
    # A script's name may have bytes that are not UTF-8, which the format is.
    return name.encode("utf-8", "replace").decode()


def _text(family: _Family) -> Iterator[str]:
    metric = family.metric
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in family.samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        # Unary plus: what is True or False in the figures is 1 or 0 here.
        yield f"{sample.name}{{{labels}}} {+sample.value}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _for_client(family: _Family) -> ClientMetric:
    from prometheus_client import Metric as ClientMetric

    metric = family.metric
    # The library adds a counter's `_total` itself.
    converted = ClientMetric(metric.name.removesuffix("_total"), metric.help, metric.kind)
    for sample in family.samples:
        converted.add_sample(sample.name, sample.labels, sample.value)
    return converted
