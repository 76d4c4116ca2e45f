"""Exports figures to Prometheus: one table of metrics, as text and as a collector."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..pooling.counters import BOUNDS
from ..runtime_dir import RuntimeDirError
from . import client
from .figures import Pool, by_name
from .report import ProcessReport

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric
    from prometheus_client.registry import Collector
else:
    # Only those who register the collector need the library, and it only asks for the methods.
    Collector = object

logger = logging.getLogger(__name__)

PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of what `exposition` returns."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a pool.

    `fields` names the fields of `PoolStatistics` behind it: several if it has a label `state`
    with their names. A histogram comes from one field that is a `Durations`.
    """

    name: str
    kind: str
    help: str
    fields: tuple[str, ...] = ()


PROCESS_UP = Metric(
    "pooled_pg_process_up", "gauge", "Whether the process answered in time: 1 or 0."
)
# Name, kind, fields, help.
_OF_POOLS = """
connections             gauge     idle,in_use       Connections by state; those being made or reset are in none.
connections_open        gauge     size              Connections the pool has or is making.
connections_max         gauge     max_size          The pool's max_size.
connections_min         gauge     min_size          The pool's min_size.
waiting                 gauge     waiting           Borrowers that wait for a connection.
budget                  gauge     budget            The most connections of all processes together; 0: no budget.
slots                   gauge     slots             Slots of the budget that the pool has.
slots_wanted            gauge     slots_wanted      Slots of the budget that the pool lacks.
paused                  gauge     paused            Whether the pool is paused: 1 or 0.
timeout_seconds         gauge     timeout           How long a borrower waits at most.
borrows_total           counter   borrows           Connections lent.
exhausted_total         counter   exhausted         Borrowers turned away: no connection within the timeout.
slots_given_total       counter   slots_given       Connections given up to other processes of the budget.
abandoned_waiting_total counter   abandoned_waiting Requests stopped because their client had gone while they waited for a connection.
abandoned_working_total counter   abandoned_working Requests stopped because their client had gone while they worked.
deadlines_total         counter   deadlines         Pieces of work stopped because their deadline had passed.
reclaimed_total         counter   reclaimed         Connections reclaimed from borrowers that were gone.
pinned_total            counter   pinned            Borrows kept to the end of the request because the session held state.
dead_total              counter   dead              Dead connections found.
resets_total            counter   resets            Sessions reset after a return.
connects_total          counter   connects          Attempts to open a server session.
connect_errors_total    counter   connect_errors    Attempts to open a server session that failed.
worked_seconds_total    counter   worked_total      Of the time held, what statements took.
wait_seconds            histogram wait              How long borrowers waited for their connection.
held_seconds            histogram held              How long connections were held, of those returned.
connect_seconds         histogram connect           How long it took to open a server session.
"""
METRICS = (
    PROCESS_UP,
    *(
        Metric(f"pooled_pg_{name}", kind, text, tuple(fields.split(",")))
        for line in _OF_POOLS.strip().splitlines()
        for name, kind, fields, text in [line.split(maxsplit=3)]
    ),
)
"""All metrics that are exported, in this order."""


def exposition(reports: Sequence[ProcessReport], database: str | None = None) -> str:
    """Return the processes' figures in Prometheus's text format, version 0.0.4.

    With `database`, pools of that alias only. `PROMETHEUS_CONTENT_TYPE` is the matching content type.
    """
    families = {
        metric: [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for metric in METRICS
    }
    for report in reports:
        # Nothing else is known of a silent process, but its series must go on.
        up = report.snapshot is not None
        families[PROCESS_UP].append(_line(PROCESS_UP.name, {"pid": report.pid}, up))
        # Two series with the same labels would make the scrape fail.
        for pool in by_name(report.pools(database)):
            assert report.snapshot is not None
            labels = {"alias": pool["alias"], "pool": pool["name"]}
            labels |= {"process": report.snapshot["process"], "pid": report.pid}
            for metric, lines in families.items():
                lines += _samples(metric, labels, pool)
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


class PooledPgCollector(Collector):
    """Gives `prometheus_client` the figures of all live processes: `registry.register(...)`.

    Each scrape asks them again, for at most `timeout` seconds.
    """

    def __init__(self, timeout: float = 1.0) -> None:
        self.timeout = timeout

    def describe(self) -> Iterable[ClientMetric]:
        """Name the metrics, so that `register` asks no process."""
        return _for_client([])

    def collect(self) -> Iterable[ClientMetric]:
        """Ask all live processes of this project. If that isn't possible, log why."""
        try:
            return _for_client(client.collect(self.timeout))
        except RuntimeDirError as ex:
            # The registry also has others' metrics: they must not get lost with ours.
            logger.error("No figures of pools for Prometheus: %s", ex)
            return _for_client([])


def _for_client(reports: Sequence[ProcessReport]) -> Iterable[ClientMetric]:
    from prometheus_client.parser import text_string_to_metric_families

    return text_string_to_metric_families(exposition(reports))


def _samples(metric: Metric, labels: dict[str, Any], pool: Pool) -> Iterator[str]:
    for field in metric.fields:
        if metric.kind == "histogram":
            counted = list(accumulate(pool[field]["buckets"]))
            for bound, count in zip((*BOUNDS, "+Inf"), counted, strict=True):
                yield _line(f"{metric.name}_bucket", labels | {"le": bound}, count)
            yield _line(f"{metric.name}_sum", labels, pool[field]["total"])
            yield _line(f"{metric.name}_count", labels, counted[-1])
        else:
            state = {"state": field} if len(metric.fields) > 1 else {}
            yield _line(metric.name, labels | state, pool[field])


def _line(name: str, labels: dict[str, Any], value: float) -> str:
    written = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
    # Unary plus turns True and False into 1 and 0.
    return f"{name}{{{written}}} {+value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
