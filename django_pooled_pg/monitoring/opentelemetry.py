"""Reports this process's pools to OpenTelemetry, by its conventions for databases.

Must cost a borrow nothing: the pools count anyway, and are only read when a reader
collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured

from ..pooling import registry
from ..pooling.counters import BOUNDS
from ..pooling.process.locks import Lock
from .figures import Pool, by_name

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider, Observation

_PREFIX = "db.client.connection."

# Instrument, unit, description; and the pool's field for each value of the attribute `state`.
_GAUGES = (
    ("count", "{connection}", "Connections by state.", {"idle": "idle", "used": "in_use"}),
    ("idle.max", "{connection}", "The most idle connections allowed.", {"": "max_size"}),
    ("idle.min", "{connection}", "The fewest idle connections allowed.", {"": "min_size"}),
    ("max", "{connection}", "The most connections allowed.", {"": "max_size"}),
    ("pending_requests", "{request}", "Borrowers that wait for a connection.", {"": "waiting"}),
)
_COUNTERS = (
    ("timeouts", "{timeout}", "Borrowers turned away.", {"": "exhausted"}),
    (
        "abandoned_waiting",
        "{request}",
        "Requests stopped because their client had gone while they waited for a connection.",
        {"": "abandoned_waiting"},
    ),
    (
        "abandoned_working",
        "{request}",
        "Requests stopped because their client had gone while they worked.",
        {"": "abandoned_working"},
    ),
    (
        "deadlines",
        "{deadline}",
        "Pieces of work stopped because their deadline had passed.",
        {"": "deadlines"},
    ),
)
# The instruments' prefix, the unit of what is counted, the description, and the pool's field.
_DURATIONS = (
    ("create_time", "{connection}", "How long it took to open a server session", "connect"),
    ("wait_time", "{borrow}", "How long borrowers waited for their connection", "wait"),
    ("use_time", "{borrow}", "How long connections were held, of those returned", "held"),
)

# Guards what follows.
_lock = Lock()
_instrumented: WeakSet[MeterProvider] = WeakSet()
_global_instrumented = False


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Report this process's pools to OpenTelemetry, present and future ones.

    Without `meter_provider`, to the global one, whether it is set before or after. One call before
    a fork is enough for all children. Does nothing if called again. Raises `ImproperlyConfigured`
    if OpenTelemetry isn't installed.
    """
    try:
        from opentelemetry import metrics
    except ImportError as ex:
        raise ImproperlyConfigured(
            "OpenTelemetry is not installed: pip install 'django-pooled-pg[opentelemetry]'."
        ) from ex

    global _global_instrumented
    with _lock:
        current = metrics.get_meter_provider()
        provider = meter_provider if meter_provider is not None else current
        # Until it is set, the global provider is a stand-in for the one to come.
        is_global = provider is current
        if provider in _instrumented or (is_global and _global_instrumented):
            return
        _instrumented.add(provider)
        _global_instrumented |= is_global
    _register(provider.get_meter("django_pooled_pg"))


def _register(meter: Meter) -> None:
    for name, unit, text, fields in _GAUGES:
        values = partial(_states, fields)
        meter.create_observable_up_down_counter(_PREFIX + name, [_observer(values)], unit, text)
    for name, unit, text, fields in _COUNTERS:
        values = partial(_states, fields)
        meter.create_observable_counter(_PREFIX + name, [_observer(values)], unit, text)
    # No histograms: OpenTelemetry only takes their values one by one, each of which costs more
    # than a borrow does.
    for name, unit, text, of in _DURATIONS:
        name, at_most = _PREFIX + name, f"{text}: how many took `le` seconds at most."
        sums, buckets = _observer(partial(_sum, of)), _observer(partial(_buckets, of))
        meter.create_observable_counter(f"{name}.sum", [sums], "s", f"{text}, in sum.")
        meter.create_observable_counter(f"{name}.bucket", [buckets], unit, at_most)


# Each value from a pool, with its attributes.
_Values = Iterator[tuple[float, dict[str, str]]]


def _states(fields: dict[str, str], pool: Pool) -> _Values:
    for state, field in fields.items():
        yield pool[field], {_PREFIX + "state": state} if state else {}


def _sum(of: str, pool: Pool) -> _Values:
    yield pool[of]["total"], {}


def _buckets(of: str, pool: Pool) -> _Values:
    counts = accumulate(pool[of]["buckets"])
    for bound, count in zip((*BOUNDS, "+Inf"), counts, strict=True):
        yield count, {"le": f"{bound}"}


def _observer(values: Callable[[Pool], _Values]) -> Callable[[object], Iterator[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(options: object) -> Iterator[Observation]:
        # By name: attributes must be enough to tell apart what is observed.
        for pool in by_name(asdict(pool) for pool in registry.statistics()):
            of_pool = {_PREFIX + "pool.name": pool["name"], "django.db.alias": pool["alias"]}
            for value, attributes in values(pool):
                yield Observation(value, of_pool | attributes)

    return observe
