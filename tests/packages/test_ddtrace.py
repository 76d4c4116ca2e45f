"""ddtrace: its spans of statements stay, and `trace_waits()` shows waits, by OpenTelemetry's API."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from django_pooled_pg.monitoring.wait_spans import NAME
from tests.support.processes import HOLD, PRELUDE, ROOT, environment

if find_spec("ddtrace") is None:  # to import it leaves a file
    pytest.skip("ddtrace isn't installed: make test-packages", allow_module_level=True)

SITE = (
    HOLD
    + """
import threading
from ddtrace.trace import TraceFilter, tracer
from django.db import OperationalError

kept = []

class Keep(TraceFilter):
    def process_trace(self, trace):
        kept.append([(s.name, s.resource, s.service, s.span_type, s.error, s.duration) for s in trace])
        return None  # sends nothing

tracer.configure(trace_processors=[Keep()])

def answer(**values):
    print(json.dumps({"traces": [t for t in kept if t[0][0] == "request"], **values}))
"""
)


def run(script: str, database: dict[str, Any], *, trace_connect: bool = False) -> dict[str, Any]:
    pools = {"default": {"max_size": 1, "timeout": 30}, "busy": {"max_size": 1, "timeout": 0.1}}
    databases = {alias: {**database, "OPTIONS": {"pool": pool}} for alias, pool in pools.items()}
    ddtrace_run = Path(sys.executable).with_name("ddtrace-run")
    with tempfile.TemporaryDirectory(prefix="dd") as folder:
        done = subprocess.run(
            [ddtrace_run, sys.executable, "-c", PRELUDE + SITE + script],
            env=environment(
                SETTINGS=json.dumps({"DATABASES": databases, "USE_TZ": True, "INSTALLED_APPS": []}),
                DD_PSYCOPG_TRACE_CONNECT=str(trace_connect),
                # Nobody to talk to.
                DD_TRACE_AGENT_URL="http://127.0.0.1:9",
                DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
                DD_REMOTE_CONFIGURATION_ENABLED="false",
                DD_TRACE_OTEL_ENABLED="true",
                # Where it leaves files; the endpoint's path has to be short.
                TMPDIR=folder,
                # Its warnings are its own.
                PYTHONDEVMODE="",
                PYTHONWARNINGS="",
            ),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def resources(trace: list[list[Any]]) -> list[str]:
    return [resource for _, resource, *_ in trace[1:]]


def test_statements_have_their_spans_and_the_pool_its_eyes(database: dict[str, Any]) -> None:
    """ddtrace puts a proxy around psycopg's connection and cursors."""
    script = """
for _ in range(2):
    with tracer.trace("request"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.executemany("SELECT %s", [(1,), (2,)])
            cursor.callproc("pg_backend_pid")
with transaction.atomic(), connection.chunked_cursor() as cursor:
    cursor.execute("SELECT generate_series(1, 3)")
    rows = cursor.fetchall()
with connection.cursor() as cursor:
    cursor.execute("SET statement_timeout = '1h'")
pinned = connection.connection is not None
connection.close()
with connection.cursor() as cursor:
    cursor.execute("SHOW statement_timeout")
    timeout = cursor.fetchone()
answer(rows=rows, pinned=pinned, timeout=timeout, left=connection.connection is not None)
"""
    answer = run(script, database)
    once = ["SELECT 1", "SELECT %s", "pg_backend_pid"]
    assert [resources(trace) for trace in answer["traces"]] == [once, once]
    assert answer["rows"] == [[1], [2], [3]]
    assert (answer["pinned"], answer["timeout"], answer["left"]) == (True, ["0"], False)


# The lines of the documentation.
SPAN = """
from django_pooled_pg import trace_waits
trace_waits()
"""


def test_the_lines_are_those_of_the_documentation() -> None:
    page = (ROOT / "docs" / "tracing.md").read_text()
    assert all(line in page for line in SPAN.strip().splitlines())
    assert "DD_TRACE_OTEL_ENABLED=true" in page


@pytest.mark.parametrize("trace_connect", [True, False])
@pytest.mark.parametrize("span", [SPAN, ""], ids=["a span", "no span"])
def test_waits_have_spans(database: dict[str, Any], span: str, trace_connect: bool) -> None:
    script = """
import time
def query():
    with tracer.trace("request"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.close()

def fail():
    with tracer.trace("request"):
        try:
            connections["busy"].cursor()
        except OperationalError as ex:
            said.append((type(ex).__name__, str(ex), type(ex.__cause__).__name__))

def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread

said = []
connection.ensure_connection()
connection.close()
query()
connection.ensure_connection()
thread = in_thread(query)
while not connection.pool.statistics().waiting:
    time.sleep(0.005)
time.sleep(0.3)
connection.close()
thread.join()
hold(connections["busy"])
in_thread(fail).join()
answer(said=said)
"""
    answer = run(span + script, database, trace_connect=trace_connect)
    [[kind, text, cause]] = answer["said"]
    assert (kind, cause) == ("PoolExhausted", "PoolTimeout")
    assert "no connection was free within" in text
    first, waiting, failing = answer["traces"]
    assert resources(first) == ["SELECT 1"]
    if not span:
        assert resources(waiting) == ["SELECT 1"]
        assert resources(failing) == []
        return
    assert resources(waiting) == [NAME, "SELECT 1"]
    assert resources(failing) == [NAME]
    assert [trace[1][-2] for trace in (waiting, failing)] == [0, 1]
    assert waiting[1][-1] >= 0.3
