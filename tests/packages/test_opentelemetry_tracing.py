"""OpenTelemetry's instrumentations: statements have spans, and with `trace_waits()` so have waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from django_pooled_pg.monitoring.wait_spans import NAME
from tests.support.processes import HOLD, run_script

for package in ("django", "psycopg"):
    pytest.importorskip(
        f"opentelemetry.instrumentation.{package}",
        reason=f"opentelemetry-instrumentation-{package} isn't installed: make test-packages",
    )

SITE = (
    HOLD
    + """
import threading
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
DjangoInstrumentor().instrument()
PsycopgInstrumentor().instrument()

from django_pooled_pg import trace_waits
trace_waits()

def view(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok")

def hold_it():
    hold(connections["busy"])
    held.set()
    done.wait()
    connections["busy"].close()

def busy(request):
    thread = threading.Thread(target=hold_it)
    thread.start()
    held.wait()
    try:
        connections["busy"].cursor()
    except OperationalError:
        pass
    done.set()
    thread.join()
    return HttpResponse("ok")

held, done = threading.Event(), threading.Event()
urlpatterns = [path("view", view), path("busy", busy)]
assert connection.pool
application = get_wsgi_application()
for name in ("view", "view", "busy"):
    environ = RequestFactory().get("/" + name).environ
    response = application(environ, lambda status, headers: None)
    assert list(response) == [b"ok"]
    response.close()  # ends the request: not so with Django's test client
print(json.dumps([
    (s.name, s.status.status_code.name, s.parent is not None) for s in exporter.get_finished_spans()
]))
"""
)


def test_waits_are_in_the_trace_of_a_request(database: dict[str, Any]) -> None:
    pools = {"default": True, "busy": {"max_size": 1, "timeout": 0.1}}
    out = run_script(
        SITE,
        {alias: {**database, "OPTIONS": {"pool": pool}} for alias, pool in pools.items()},
        ROOT_URLCONF="__main__",
        ALLOWED_HOSTS=["testserver"],
        MIDDLEWARE=[],
        SECRET_KEY="for this test",
    )
    spans = json.loads(out)
    # Those of a new session are in a thread of the pool's.
    of_requests = [span for span in spans if span[2] or span[0].startswith("GET")]
    assert of_requests[-4:] == [
        ["SELECT", "UNSET", True],
        ["GET view", "UNSET", False],
        [NAME, "ERROR", True],
        ["GET busy", "UNSET", False],
    ]
