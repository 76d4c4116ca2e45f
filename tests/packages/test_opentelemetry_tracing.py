"""OpenTelemetry's instrumentations: statements have spans; a line of the site's shows waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
from django.db.backends.base.base import BaseDatabaseWrapper
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

# The line of the site's.
tracer = trace.get_tracer("site")
BaseDatabaseWrapper.connect = tracer.start_as_current_span("connect")(BaseDatabaseWrapper.connect)

def view(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok")

def busy(request):
    hold(connections["busy"])
    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    connections["busy"].close()
    return HttpResponse("ok")

def try_it():
    try:
        connections["busy"].cursor()
    except OperationalError:
        pass

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


def test_a_line_shows_waits_in_the_trace_of_a_request(database: dict[str, Any]) -> None:
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
    request = [["connect", "UNSET", True], ["SELECT", "UNSET", True], ["GET view", "UNSET", False]]
    # Those of a new session are in a thread of the pool's.
    waits = [span for span in spans if span[2] or span[0].startswith(("GET", "connect"))]
    assert waits[:6] == request * 2
    assert waits[-2:] == [["connect", "ERROR", False], ["GET busy", "UNSET", False]]
