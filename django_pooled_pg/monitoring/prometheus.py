"""Owns what Prometheus is told: one table of metrics, as text and as a collector."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    with their names. A histogram is made of one that is a `Durations`.
    """

    name: str
    kind: str
    help: str
    fields: tuple[str, ...] = ()


PROCESS_UP = Metric(
    "pooled_pg_process_up", "gauge", "Whether the process answered in time: 1 or 0."
)
# Name, help, field.
_GAUGES = (
    ("connections_open", "Connections the pool has or is making.", "size"),
    ("connections_max", "The pool's max_size.", "max_size"),
    ("connections_min", "The pool's min_size.", "min_size"),
    ("waiting", "Borrowers that wait for a connection.", "waiting"),
    ("paused", "Whether the pool is paused: 1 or 0.", "paused"),
    ("timeout_seconds", "How long a borrower waits at most.", "timeout"),
)
_COUNTERS = (
    ("borrows", "Connections lent.", "borrows"),
    ("exhausted", "Borrowers turned away: no connection within the timeout.", "exhausted"),
    ("reclaimed", "Connections taken back from borrowers that were gone.", "reclaimed"),
    (
        "pinned",
        "Borrows kept to the end of the request because the session held state.",
        "pinned",
    ),
    ("dead", "Dead connections found.", "dead"),
    ("resets", "Sessions reset after a return.", "resets"),
    ("connects", "Attempts to open a server session.", "connects"),
    ("connect_errors", "Attempts to open a server session that failed.", "connect_errors"),
    ("worked_seconds", "Of the time held, what statements took.", "worked_total"),
)
_HISTOGRAMS = (
    ("wait_seconds", "How long borrowers waited for their connection.", "wait"),
    ("held_seconds", "How long connections were held, of those returned.", "held"),
    ("connect_seconds", "How long it took to open a server session.", "connect"),
)
METRICS = (
    PROCESS_UP,
    Metric(
        "pooled_pg_connections",
        "gauge",
        "Connections by state; those being made or cleaned are in none.",
        ("idle", "in_use"),
    ),
    *(Metric(f"pooled_pg_{name}", "gauge", text, (field,)) for name, text, field in _GAUGES),
    *(
        Metric(f"pooled_pg_{name}_total", "counter", text, (field,))
        for name, text, field in _COUNTERS
    ),
    *(
        Metric(f"pooled_pg_{name}", "histogram", text, (field,))
        for name, text, field in _HISTOGRAMS
    ),
)
"""All that is exported, in this order."""

# A name, labels and a value.
_Sample = tuple[str, dict[str, str], float]


def exposition(reports: Sequence[ProcessReport], database: str | None = None) -> str:
    """Return the processes' figures in Prometheus' text format, version 0.0.4.

    With `database`, pools of that alias only. `CONTENT_TYPE` is the fitting content type.
    """
    lines = []
    for metric, samples in _families(reports, database).items():
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for name, labels, value in samples:
            written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            # Unary plus: what is True or False in the figures is 1 or 0 here.
            lines.append(f"{name}{{{written}}} {+value}")
    return "".join(line + "\n" for line in lines)


class PooledPgCollector(Collector):
    """Tells `prometheus_client` the figures of all live processes: `registry.register(...)`.

    Each scrape asks them anew, for `timeout` seconds at most.
    """

    def __init__(self, timeout: float = 1.0) -> None:
        self.timeout = timeout

    def describe(self) -> Iterable[ClientMetric]:
        """Name the metrics: `register` asks nobody then."""
        return [_for_client(metric, ()) for metric in METRICS]

    def collect(self) -> Iterable[ClientMetric]:
        """Ask all live processes of this project. Where that can't be done, it is logged."""
        try:
            reports = client.collect(self.timeout)
        except RuntimeDirError as ex:
            # The registry has others' metrics too: they must not get lost with ours.
            logger.error("No figures of pools for Prometheus: %s", ex)
            reports = []
        return [_for_client(*family) for family in _families(reports, None).items()]


def _families(
    reports: Sequence[ProcessReport], database: str | None
) -> dict[Metric, list[_Sample]]:
    families: dict[Metric, list[_Sample]] = {metric: [] for metric in METRICS}
    for report in reports:
        answered = report.snapshot is not None
        # Nothing else is known of a process that is silent: its series must go on all the same.
        families[PROCESS_UP].append((PROCESS_UP.name, {"pid": f"{report.pid}"}, int(answered)))
        if report.snapshot is None:
            continue
        of_process = {"process": report.snapshot["process"], "pid": f"{report.pid}"}
        # Two series with the same labels would let the scrape fail.
        for pool in by_name(report.pools(database)):
            labels = {"alias": pool["alias"], "pool": pool["name"]} | of_process
            for metric, samples in families.items():
                samples += _samples(metric, labels, pool)
    return families


def _samples(metric: Metric, labels: dict[str, str], pool: Pool) -> Iterator[_Sample]:
    for field in metric.fields:
        if metric.kind == "histogram":
            counted = list(accumulate(pool[field]["buckets"]))
            for bound, count in zip((*BOUNDS, "+Inf"), counted, strict=True):
                yield f"{metric.name}_bucket", {**labels, "le": f"{bound}"}, count
            yield f"{metric.name}_sum", labels, pool[field]["total"]
            yield f"{metric.name}_count", labels, counted[-1]
        else:
            state = {"state": field} if len(metric.fields) > 1 else {}
            yield metric.name, labels | state, pool[field]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _for_client(metric: Metric, samples: Iterable[_Sample]) -> ClientMetric:
    from prometheus_client import Metric as ClientMetric

    # The library adds a counter's `_total` itself.
    converted = ClientMetric(metric.name.removesuffix("_total"), metric.help, metric.kind)
    for sample in samples:
        converted.add_sample(*sample)
    return converted
