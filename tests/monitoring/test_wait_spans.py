from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from django_pooled_pg.monitoring.wait_spans import NAME, trace_waits
from django_pooled_pg.pooling import waits
from django_pooled_pg.pooling.errors import PoolExhausted
from django_pooled_pg.pooling.pool import Pool
from tests.conftest import MakeWrapper
from tests.support.processes import environment, run_script
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def nobody_told_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "on_wait", None)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def pool(make_wrapper: MakeWrapper) -> Pool:
    pool = make_wrapper({"max_size": 1, "timeout": 30, "name": "busy"}, alias="waits").pool
    assert pool is not None
    pool.give_back(pool.borrow())
    return pool


def wait_for(pool: Pool, provider: TracerProvider) -> None:
    """Wait in a span of another thread, until this one has given its connection back."""

    def borrow() -> None:
        with provider.get_tracer("site").start_as_current_span("request"):
            pool.give_back(pool.borrow())

    lease = pool.borrow()
    thread = threading.Thread(target=borrow)
    thread.start()
    wait_until(lambda: pool.statistics().waiting == 1)
    pool.give_back(lease)
    thread.join()


def spans(exporter: InMemorySpanExporter) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
    """Return the waits, and all others."""
    found = exporter.get_finished_spans()
    return [s for s in found if s.name == NAME], [s for s in found if s.name != NAME]


def test_a_wait_is_a_span_of_who_waits(
    pool: Pool, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    trace_waits(provider, threshold=0)
    before = pool.statistics().wait.total
    wait_for(pool, provider)
    (wait,), (request,) = spans(exporter)
    assert wait.parent is not None
    assert request.context is not None
    assert wait.parent.span_id == request.context.span_id
    assert wait.start_time is not None
    assert wait.end_time is not None
    seconds = (wait.end_time - wait.start_time) / 1e9
    assert seconds == pytest.approx(pool.statistics().wait.total - before, abs=0.5)
    attributes = dict(wait.attributes or {})
    assert attributes.pop("pooled_pg.held_longest.seconds") > 0  # type: ignore[operator]
    assert str(attributes.pop("pooled_pg.held_longest.place")).startswith("at ")
    assert attributes == {
        "db.system.name": "postgresql",
        "db.client.connection.pool.name": "busy",
        "django.db.alias": "waits",
        "pooled_pg.held_longest.thread": threading.current_thread().name,
    }


def test_a_wait_that_is_shorter_than_the_threshold_is_none(
    pool: Pool, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    trace_waits(provider, threshold=60)
    wait_for(pool, provider)
    waited, others = spans(exporter)
    assert (waited, len(others)) == ([], 1)


def test_nor_is_a_borrow_that_finds_a_connection(
    pool: Pool, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    trace_waits(provider, threshold=0)
    pool.give_back(pool.borrow())
    assert spans(exporter) == ([], [])


def test_a_wait_in_vain(
    make_wrapper: MakeWrapper, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    pool = make_wrapper({"max_size": 1, "timeout": 0.1}).pool
    assert pool is not None
    trace_waits(provider, threshold=0.05)
    pool.open(wait=True)
    lease = pool.borrow()
    with pytest.raises(PoolExhausted) as exhausted:
        pool.borrow()
    pool.give_back(lease)
    wait = spans(exporter)[0][-1]
    assert wait.status.status_code.name == "ERROR"
    assert wait.status.description == str(exhausted.value)
    assert wait.attributes is not None
    assert wait.attributes["error.type"] == "django_pooled_pg.pooling.errors.PoolExhausted"


@pytest.mark.parametrize("threshold", [-1, float("nan")])
def test_a_threshold_that_is_none(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is a number of seconds"):
        trace_waits(threshold=threshold)


def test_a_provider_that_is_set_later(database: dict[str, object]) -> None:
    script = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from django_pooled_pg.monitoring.wait_spans import trace_waits
trace_waits(threshold=0)
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
backend_pid()
print([span.name for span in exporter.get_finished_spans()])
"""
    assert run_script(script, {"default": database}) == f"[{NAME!r}]\n"


def test_without_opentelemetry_it_says_what_to_install() -> None:
    script = """
import sys
sys.modules["opentelemetry"] = None
from django.core.exceptions import ImproperlyConfigured
from django_pooled_pg.monitoring.wait_spans import trace_waits
try:
    trace_waits()
except ImproperlyConfigured as error:
    assert "pip install 'django-pooled-pg[opentelemetry]'" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)
