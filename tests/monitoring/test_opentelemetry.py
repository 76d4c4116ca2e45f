from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from django_pooled_pg.monitoring.opentelemetry import instrument, spread
from django_pooled_pg.pooling.statistics import BOUNDS, bucket_of, empty_buckets
from tests.conftest import MakeWrapper
from tests.monitoring.made_up import buckets
from tests.support.processes import FORK, ROOT, environment, run_script

# By the conventions; a pool's name is an attribute of each.
UNITS = {
    "db.client.connection.count": "{connection}",
    "db.client.connection.idle.max": "{connection}",
    "db.client.connection.idle.min": "{connection}",
    "db.client.connection.max": "{connection}",
    "db.client.connection.pending_requests": "{request}",
    "db.client.connection.timeouts": "{timeout}",
    "db.client.connection.create_time": "s",
    "db.client.connection.wait_time": "s",
    "db.client.connection.use_time": "s",
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

    def histogram(self, name: str) -> HistogramDataPoint:
        (point,) = self.points[f"db.client.connection.{name}"]
        assert isinstance(point, HistogramDataPoint)
        return point


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
    pool.config = replace(pool.config, timeout=0.05)  # not before: connecting may take longer
    assert Collected(reader, "full").value("timeouts") == 0
    with pytest.raises(Exception, match="timeout"):
        other.ensure_connection()
    assert Collected(reader, "full").value("timeouts") == 1


def test_histograms_have_the_pools_buckets_and_sums(
    reader: InMemoryMetricReader, provider: MeterProvider, make_wrapper: MakeWrapper
) -> None:
    instrument(provider)
    wrapper = make_wrapper({"name": "timed"})
    for seconds in (0.0, 0.03, 0.0, 0.0, 0.12):
        borrow(wrapper, seconds)
        collected = Collected(reader, "timed")
    assert wrapper.pool is not None
    figures = wrapper.pool.statistics()
    for name, counted, seconds in (
        ("use_time", figures.held_buckets, figures.held_total),
        ("wait_time", figures.wait_buckets, figures.wait_total),
        ("create_time", figures.connect_buckets, figures.connect_total),
    ):
        point = collected.histogram(name)
        assert tuple(point.explicit_bounds) == BOUNDS
        assert list(point.bucket_counts) == counted
        assert point.count == sum(counted)
        assert point.sum == pytest.approx(seconds, rel=1e-6)
    assert collected.histogram("use_time").count == 5


def test_nothing_new_is_nothing_recorded(
    reader: InMemoryMetricReader, provider: MeterProvider, make_wrapper: MakeWrapper
) -> None:
    instrument(provider)
    borrow(make_wrapper({"name": "once"}))
    first = Collected(reader, "once").histogram("use_time")
    assert Collected(reader, "once").histogram("use_time").count == first.count == 1


def test_several_readers_each_get_all(make_wrapper: MakeWrapper) -> None:
    delta = InMemoryMetricReader(preferred_temporality={Histogram: AggregationTemporality.DELTA})
    cumulative = InMemoryMetricReader()
    instrument(MeterProvider([delta, cumulative], shutdown_on_exit=False))
    wrapper = make_wrapper({"name": "twice"})
    counts = []
    for _ in range(2):
        borrow(wrapper)
        counts.append(
            [Collected(each, "twice").histogram("use_time").count for each in (delta, cumulative)]
        )
    assert counts == [[1, 1], [1, 2]]


def test_buckets_of_a_view_are_filled_as_well_as_they_fit(make_wrapper: MakeWrapper) -> None:
    reader = InMemoryMetricReader()
    aggregation = ExplicitBucketHistogramAggregation([0.02, 0.5])
    view = View(instrument_name="db.client.connection.use_time", aggregation=aggregation)
    instrument(MeterProvider([reader], views=[view], shutdown_on_exit=False))
    wrapper = make_wrapper({"name": "viewed"})
    for seconds in (0.0, 0.06):
        borrow(wrapper, seconds)
    assert list(Collected(reader, "viewed").histogram("use_time").bucket_counts) == [1, 1, 0]


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
    assert collected.histogram("use_time").count == 1
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
    (point,) = points(name)
    return point.count
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
    # Of the parent's, its reader has one already: that is the library's inheritance.
    assert count("use_time") == 1 + 2, count("use_time")
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


@pytest.mark.parametrize(
    "durations",
    [
        [],
        [0.0],
        [0.00005, 0.3, 0.3, 7.0],
        [60.0, 60.1],
        [100.0, 70.0],
        list(BOUNDS),
        [0.0] * 1000 + [10.0],
        [math.nextafter(bound, 100) for bound in BOUNDS],
    ],
)
def test_values_are_in_their_buckets_and_sum_up(durations: list[float]) -> None:
    counted = buckets(*durations)
    recorded = empty_buckets()
    seconds = 0.0
    for value, count in spread(counted, sum(durations), max(durations, default=0.0)):
        recorded[bucket_of(value)] += count
        seconds += value * count
    assert recorded == counted
    assert seconds == pytest.approx(sum(durations), rel=1e-6, abs=1e-12)


def test_a_sum_that_does_not_fit_leaves_the_buckets_right() -> None:
    # The two are not counted under one lock.
    counted = buckets(0.3, 70.0)
    for seconds in (0.0, 1000.0):
        values = list(spread(counted, seconds, 75.0))
        assert [bucket_of(value) for value, _ in values] == [bucket_of(0.3), bucket_of(70.0)]
