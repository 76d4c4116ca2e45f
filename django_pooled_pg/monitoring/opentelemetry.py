"""Owns what OpenTelemetry is told of this process' pools, by its conventions for databases.

Must cost a borrow nothing: the pools count by themselves, and are looked at when a reader
collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from math import inf, nextafter
from typing import TYPE_CHECKING
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured

from ..pooling import registry
from ..pooling.process.locks import Lock
from ..pooling.statistics import BOUNDS
from .figures import Pool, by_name, since

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter, MeterProvider, Observation

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
# Instrument, description, and what its fields begin with; the unit is seconds.
_HISTOGRAMS = (
    ("create_time", "How long it took to open a server session.", "connect"),
    ("wait_time", "How long borrowers waited for their connection.", "wait"),
    ("use_time", "How long connections were held, of those returned.", "held"),
)

# Guards what follows.
_lock = Lock()
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
    durations = _Durations(
        (
            meter.create_histogram(
                _PREFIX + name, "s", text, explicit_bucket_boundaries_advisory=BOUNDS
            ),
            field,
        )
        for name, text, field in _HISTOGRAMS
    )
    for name, unit, text, fields in _GAUGES:
        callback = _observer(fields)
        callbacks = [durations.observe, callback] if name == "count" else [callback]
        meter.create_observable_up_down_counter(_PREFIX + name, callbacks, unit, text)
    name, unit, text, fields = _TIMEOUTS
    meter.create_observable_counter(_PREFIX + name, [_observer(fields)], unit, text)


def _observer(fields: dict[str, str]) -> Callable[[object], Iterable[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(options: object) -> Iterator[Observation]:
        for pool in _pools():
            for state, field in fields.items():
                attributes = _attributes(pool)
                if state:
                    attributes[_PREFIX + "state"] = state
                yield Observation(pool[field], attributes)

    return observe


def _pools() -> Iterable[Pool]:
    # Attributes must tell apart what is observed.
    return by_name(asdict(pool) for pool in registry.statistics())


def _attributes(pool: Pool) -> dict[str, str]:
    return {_PREFIX + "pool.name": pool["name"], "django.db.alias": pool["alias"]}


class _Durations:
    """Hands what the pools have counted since the last look on to histograms.

    OpenTelemetry takes a histogram's values one by one only. Each is recorded within the bucket
    it was counted in, and so that their sum is what the pool has.
    """

    def __init__(self, histograms: Iterable[tuple[Histogram, str]]) -> None:
        self._histograms = list(histograms)
        self._start_anew()
        registry.on_fork(self._start_anew)

    def _start_anew(self) -> None:
        # In a forked child, whose pools begin at zero; the lock may have been held at the fork.
        self._lock = Lock()
        self._seen: dict[tuple[str, str], Pool] = {}

    def observe(self, options: object) -> Iterable[Observation]:
        """Record what is new. Called when a reader collects, before histograms are read."""
        with self._lock:
            for pool in _pools():
                key = pool["alias"], pool["name"]
                new = since(self._seen.get(key), pool)
                self._seen[key] = pool
                attributes = _attributes(pool)
                for histogram, field in self._histograms:
                    longest = pool[f"{field}_max"]
                    values = spread(new[f"{field}_buckets"], new[f"{field}_total"], longest)
                    for value, count in values:
                        for _ in range(count):
                            histogram.record(value, attributes)
        return ()


def spread(buckets: list[int], seconds: float, longest: float) -> Iterator[tuple[float, int]]:
    """Yield for each bucket of `BOUNDS` that has values one value within it, and how many.

    All are as far into their buckets as makes them `seconds` in sum.
    """
    edges = [
        (low, high, count)
        for low, high, count in zip(
            (0.0, *BOUNDS), (*BOUNDS, max(longest, BOUNDS[-1])), buckets, strict=True
        )
        if count
    ]
    least = sum(low * count for low, _, count in edges)
    room = sum((high - low) * count for low, high, count in edges)
    into = min(1.0, max(0.0, (seconds - least) / room)) if room else 1.0
    for low, high, count in edges:
        # A bucket's lower bound itself belongs to the bucket below.
        yield max(low + (high - low) * into, nextafter(low, inf)), count
