from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from django_pooled_pg.monitoring.opentelemetry import instrument
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.counters import BOUNDS
from tests.conftest import MakeWrapper
from tests.support.processes import FORK, ROOT, environment, run_script

# By the conventions; a pool's name is an attribute of each.
UNITS = {
    "db.client.connection.count": "{connection}",
    "db.client.connection.idle.max": "{connection}",
    "db.client.connection.idle.min": "{connection}",
    "db.client.connection.max": "{connection}",
    "db.client.connection.pending_requests": "{request}",
    "db.client.connection.timeouts": "{timeout}",
    "db.client.connection.abandoned_waiting": "{request}",
    "db.client.connection.abandoned_working": "{request}",
    "db.client.connection.deadlines": "{deadline}",
    "db.client.connection.create_time.sum": "s",
    "db.client.connection.create_time.bucket": "{connection}",
    "db.client.connection.wait_time.sum": "s",
    "db.client.connection.wait_time.bucket": "{borrow}",
    "db.client.connection.use_time.sum": "s",
    "db.client.connection.use_time.bucket": "{borrow}",
}


class Collected:
    """What a reader gets of one pool."""

    def __init__(self, reader: InMemoryMetricReader, name: str) -> None:
        data = reader.get_metrics_data()
        self.units: dict[str, str | None] = {}
        self.points: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else []:
            for metric in resource.scope_metrics[0].metrics:
                self.units[metric.name] = metric.unit
                self.points[metric.name] = [
                    point
                    for point in metric.data.data_points
                    if (point.attributes or {}).get("db.client.connection.pool.name") == name
                ]

    def value(self, name: str, **attributes: str) -> Any:
        (value,) = [
            point.value
            for point in self.points[f"db.client.connection.{name}"]
            if {f"db.client.connection.{k}": v for k, v in attributes.items()}.items()
            <= point.attributes.items()
        ]
        return value

    def buckets(self, name: str) -> dict[str, int]:
        points = self.points[f"db.client.connection.{name}.bucket"]
        return {point.attributes["le"]: point.value for point in points}

    def count(self, name: str) -> int:
        return self.buckets(name)["+Inf"]


@pytest.fixture(autouse=True)
def no_pools_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK keeps 2,000 sets of attributes for an instrument, which is some 100 pools."""
    monkeypatch.setattr(registry, "_kept", {})
    monkeypatch.setattr(registry, "_past", {})


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> MeterProvider:
    return MeterProvider([reader], shutdown_on_exit=False)


def borrow(wrapper: Any, seconds: float = 0.0) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
    wrapper.close()


def test_gauges(
    reader: InMemoryMetricReader, provider: MeterProvider, make_wrapper: MakeWrapper
) -> None:
    instrument(provider)
    wrapper = make_wrapper({"min_size": 2, "max_size": 7, "name": "gauges"})
    assert wrapper.pool is not None
    wrapper.pool.open(wait=True)
    wrapper.ensure_connection()
    collected = Collected(reader, "gauges")
    assert collected.value("count", state="used") == 1
    assert collected.value("count", state="idle") == 1
    assert collected.value("max") == collected.value("idle.max") == 7
    assert collected.value("idle.min") == 2
    assert collected.value("pending_requests") == 0
    (point,) = collected.points["db.client.connection.max"]
    assert point.attributes["django.db.alias"] == wrapper.alias


def test_names_and_units_are_those_of_the_conventions(
    reader: InMemoryMetricReader, provider: MeterProvider, make_wrapper: MakeWrapper
) -> None:
    instrument(provider)
    borrow(make_wrapper())
    assert Collected(reader, "").units == UNITS


def test_the_page_has_all_metrics_and_no_other() -> None:
    page = (ROOT / "docs/exporters.md").read_text()
    assert re.findall(r"^\| `(db\.[\w.]+)` \|", page, re.MULTILINE) == list(UNITS)


def test_who_was_turned_away_is_a_timeout(
    reader: InMemoryMetricReader, provider: MeterProvider, make_wrapper: MakeWrapper
) -> None:
    instrument(provider)
    options = {"max_size": 1, "name": "full"}
    one, other = make_wrapper(options, alias="full"), make_wrapper(options, alias="full")
    one.ensure_connection()
    pool = one.pool
    assert pool is not None
    pool.supply.config = replace(
        pool.config, timeout=0.05
    )  # not before: connecting may take longer
    assert Collected(reader, "full").value("timeouts") == 0
    with pytest.raises(Exception, match="timeout"):
        other.ensure_connection()
    assert Collected(reader, "full").value("timeouts") == 1


def test_durations_are_the_pools_sums_and_buckets(
    reader: InMemoryMetricReader, provider: MeterProvider, make_wrapper: MakeWrapper
) -> None:
    instrument(provider)
    wrapper = make_wrapper({"name": "timed"})
    for seconds in (0.0, 0.03, 0.0, 0.0, 0.12):
        borrow(wrapper, seconds)
        collected = Collected(reader, "timed")
    assert wrapper.pool is not None
    figures = wrapper.pool.statistics()
    for name, durations in (
        ("use_time", figures.held),
        ("wait_time", figures.wait),
        ("create_time", figures.connect),
    ):
        bounds = [*map(str, BOUNDS), "+Inf"]
        assert collected.buckets(name) == dict(
            zip(bounds, accumulate(durations.buckets), strict=True)
        )
        assert collected.value(f"{name}.sum") == durations.total
    assert collected.count("use_time") == 5


def test_nothing_is_done_for_a_borrow(
    reader: InMemoryMetricReader,
    provider: MeterProvider,
    make_wrapper: MakeWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instrument(provider)
    wrapper = make_wrapper({"name": "many"})
    borrow(wrapper)
    observations = []
    made = Observation.__init__

    def counted(self: Observation, *args: Any, **options: Any) -> None:
        observations.append(args)
        made(self, *args, **options)

    monkeypatch.setattr(Observation, "__init__", counted)

    def collect() -> int:
        observations.clear()
        reader.get_metrics_data()
        return len(observations)

    before = collect()
    for _ in range(50):
        borrow(wrapper)
    assert observations[before:] == []
    assert collect() == before > 0


def test_several_readers_each_get_all(make_wrapper: MakeWrapper) -> None:
    delta = InMemoryMetricReader(
        preferred_temporality={ObservableCounter: AggregationTemporality.DELTA}
    )
    cumulative = InMemoryMetricReader()
    instrument(MeterProvider([delta, cumulative], shutdown_on_exit=False))
    wrapper = make_wrapper({"name": "twice"})
    counts = []
    for _ in range(2):
        borrow(wrapper)
        counts.append([Collected(each, "twice").count("use_time") for each in (delta, cumulative)])
    assert counts == [[1, 1], [1, 2]]


def test_a_second_call_does_not_double(
    reader: InMemoryMetricReader,
    provider: MeterProvider,
    make_wrapper: MakeWrapper,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    meters = []
    get_meter = provider.get_meter

    def counted(name: str) -> Meter:
        # The SDK itself refuses instruments that it has; not each one need do so.
        meters.append(name)
        return get_meter(name)

    monkeypatch.setattr(provider, "get_meter", counted)
    instrument(provider)
    instrument(provider)
    assert len(meters) == 1
    wrapper = make_wrapper({"name": "again"})
    borrow(wrapper)
    collected = Collected(reader, "again")
    assert collected.value("count", state="idle") == 1
    assert collected.count("use_time") == 1
    assert not caplog.records


@pytest.mark.parametrize("call", ["instrument()", "instrument(provider)"])
@pytest.mark.parametrize("again", ["instrument()", "instrument(provider)"])
def test_the_global_provider_may_be_set_later(
    database: dict[str, Any], call: str, again: str
) -> None:
    # OpenTelemetry takes one global provider in a process' life.
    run_script(
        SET_UP
        + f"""
meters = []
class Counted(MeterProvider):
    def get_meter(self, *args, **options):
        meters.append(args)
        return super().get_meter(*args, **options)
reader = InMemoryMetricReader()
provider = Counted([reader], shutdown_on_exit=False)
{call}
metrics.set_meter_provider(provider)
{again}
assert len(meters) == 1, meters
connection.ensure_connection()
connection.close()
assert count("use_time") == 1, count("use_time")
""",
        {"default": database},
    )


SET_UP = (
    FORK
    + """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from django_pooled_pg.monitoring.opentelemetry import instrument
reader = InMemoryMetricReader()
provider = MeterProvider([reader], shutdown_on_exit=False)
def points(name):
    data = reader.get_metrics_data()
    return [
        point
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "db.client.connection." + name
        for point in metric.data.data_points
    ]
def count(name):
    (point,) = [p for p in points(name + ".bucket") if p.attributes["le"] == "+Inf"]
    return point.value
"""
)


def test_once_before_the_fork(database: dict[str, Any]) -> None:
    run_script(
        SET_UP
        + """
instrument(provider)
for _ in range(3):
    connection.ensure_connection()
    connection.close()
def child():
    connection.ensure_connection()
    used = {p.attributes["db.client.connection.state"]: p.value for p in points("count")}
    assert used["used"] == 1, used
    connection.close()
    assert count("use_time") == 1, count("use_time")
assert fork(child) == 0
assert count("use_time") == 3
""",
        {"default": database},
    )


def test_a_collection_before_the_fork_takes_nothing_from_a_child(database: dict[str, Any]) -> None:
    run_script(
        SET_UP
        + """
instrument(provider)
def borrow():
    connection.ensure_connection()
    connection.close()
borrow()
assert count("use_time") == 1
def child():
    for _ in range(2):
        borrow()
    assert count("use_time") == 2, count("use_time")
assert fork(child) == 0
borrow()
assert count("use_time") == 2
""",
        {"default": database},
    )


def test_in_each_worker(database: dict[str, Any]) -> None:
    run_script(
        SET_UP
        + """
connection.ensure_connection()
connection.close()
def child():
    instrument(provider)
    connection.ensure_connection()
    connection.close()
    assert count("use_time") == 1, count("use_time")
assert fork(child) == 0
""",
        {"default": database},
    )


def test_without_opentelemetry_it_names_the_extra() -> None:
    script = """
import sys
sys.modules["opentelemetry"] = None  # as if it weren't installed
from django.core.exceptions import ImproperlyConfigured
from django_pooled_pg.monitoring.opentelemetry import instrument
try:
    instrument()
except ImproperlyConfigured as error:
    assert "django-pooled-pg[opentelemetry]" in str(error)
else:
    raise AssertionError
assert "django.http" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)
