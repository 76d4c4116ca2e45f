"""Owns what OpenTelemetry is told of this process' pools, by its conventions for databases.

Must cost a borrow nothing: the pools count by themselves, and are looked at when a reader
collects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import accumulate
from typing import TYPE_CHECKING
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured

from ..pooling import registry
from ..pooling.statistics import BOUNDS
from .figures import Pool, by_name

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider, Observation

_PREFIX = "db.client.connection."

# Instrument, unit, description, and for each value of the attribute `state` the pool's field.
_GAUGES = (
    ("count", "{connection}", "Connections by state.", {"idle": "idle", "used": "in_use"}),
    ("idle.max", "{connection}", "The most idle connections allowed.", {"": "max_size"}),
    ("idle.min", "{connection}", "The fewest idle connections allowed.", {"": "min_size"}),
    ("max", "{connection}", "The most connections allowed.", {"": "max_size"}),
    ("pending_requests", "{request}", "Borrowers that wait for a connection.", {"": "waiting"}),
)
_TIMEOUTS = ("timeouts", "{timeout}", "Borrowers turned away.", {"": "exhausted"})
# Instruments begin with it; unit of what is counted, description, and the pool's field.
_DURATIONS = (
    ("create_time", "{connection}", "How long it took to open a server session", "connect"),
    ("wait_time", "{borrow}", "How long borrowers waited for their connection", "wait"),
    ("use_time", "{borrow}", "How long connections were held, of those returned", "held"),
)

# Guards what follows.
_lock = threading.Lock()
_instrumented: WeakSet[MeterProvider] = WeakSet()
_global_instrumented = False


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Report this process' pools to OpenTelemetry: those that are there, and that will be.

    Without `meter_provider` to the global one, be it set before or after. Once before a fork is
    enough for all children. Does nothing when it was done already. Raises
    `ImproperlyConfigured` where OpenTelemetry is not installed.
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
        # Until it is set, the global provider is a stand-in for the one that comes.
        is_global = provider is current
        if provider in _instrumented or (is_global and _global_instrumented):
            return
        _instrumented.add(provider)
        _global_instrumented |= is_global
    _register(provider.get_meter("django_pooled_pg"))


def _register(meter: Meter) -> None:
    for name, unit, text, fields in _GAUGES:
        meter.create_observable_up_down_counter(_PREFIX + name, [_states(fields)], unit, text)
    name, unit, text, fields = _TIMEOUTS
    meter.create_observable_counter(_PREFIX + name, [_states(fields)], unit, text)
    # No histograms: OpenTelemetry takes their values one by one only, each of which costs more
    # than a borrow does.
    for name, unit, text, field in _DURATIONS:
        name = _PREFIX + name
        meter.create_observable_counter(f"{name}.sum", [_sums(field)], "s", f"{text}, in sum.")
        text = f"{text}: how many took `le` seconds at most."
        meter.create_observable_counter(f"{name}.bucket", [_buckets(field)], unit, text)


_Callback = Callable[[object], Iterable["Observation"]]


def _states(fields: dict[str, str]) -> _Callback:
    return _observer(
        lambda pool: (
            (pool[field], {_PREFIX + "state": state} if state else {})
            for state, field in fields.items()
        )
    )


def _sums(field: str) -> _Callback:
    return _observer(lambda pool: [(pool[field]["total"], {})])


def _buckets(field: str) -> _Callback:
    return _observer(
        lambda pool: (
            (count, {"le": f"{bound}"})
            for bound, count in zip(
                (*BOUNDS, "+Inf"), accumulate(pool[field]["buckets"]), strict=True
            )
        )
    )


def _observer(values: Callable[[Pool], Iterable[tuple[float, dict[str, str]]]]) -> _Callback:
    from opentelemetry.metrics import Observation

    def observe(options: object) -> Iterator[Observation]:
        # By name: attributes must tell apart what is observed.
        for pool in by_name(asdict(pool.statistics()) for pool in registry.pools()):
            of_pool = {_PREFIX + "pool.name": pool["name"], "django.db.alias": pool["alias"]}
            for value, attributes in values(pool):
                yield Observation(value, of_pool | attributes)

    return observe
