"""What a process imports and starts before its first query is answered, and what it doesn't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.processes import run_script

# Of this package: what is imported when it is used. A folder stands for what is in it.
LATER = (
    "django_pooled_pg.checks",
    "django_pooled_pg.management",
    "django_pooled_pg.middleware",
    "django_pooled_pg.monitoring",
    "django_pooled_pg.places",
    "django_pooled_pg.pooling.statistics",
    "django_pooled_pg.request_record",
    "django_pooled_pg.server_timing",
    "django_pooled_pg.toolbar",
)
# The socket on which `poolstats` finds the process: without what answers.
ENDPOINT = {
    "django_pooled_pg.monitoring",
    "django_pooled_pg.monitoring.endpoint",
    "django_pooled_pg.monitoring.leftovers",
}
# How many modules of this package there are after a first query.
MOST = 75

TELL = """
import sys, threading
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
connection.close()
modules = list(sys.modules)
print(json.dumps([modules, [thread.name for thread in threading.enumerate()]]))
"""


@pytest.fixture(params=[[], ["django_pooled_pg"]], ids=["engine", "app"])
def started(request: pytest.FixtureRequest, database: dict[str, Any]) -> tuple[set[str], list[str]]:
    """The modules and the threads of a process that has made a query."""
    databases = {"default": {**database, "ENGINE": "django_pooled_pg"}}
    modules, threads = json.loads(run_script(TELL, databases, INSTALLED_APPS=request.param))
    return set(modules), threads


def test_a_first_query_imports_nothing_that_it_does_not_need(
    started: tuple[set[str], list[str]],
) -> None:
    modules, _ = started
    assert modules >= ENDPOINT
    for each in LATER:
        found = {name for name in modules if name == each or name.startswith(f"{each}.")}
        assert found <= ENDPOINT
    # A new one is to be needed by each first query.
    assert sum(name.startswith("django_pooled_pg") for name in modules) <= MOST


def test_a_first_query_starts_no_thread_that_it_does_not_need(
    started: tuple[set[str], list[str]],
) -> None:
    _, threads = started
    assert sorted(threads) == [
        "MainThread",
        "default-scheduler",
        "default-worker-0",
        "default-worker-1",
        "django_pooled_pg endpoint",
        "django_pooled_pg-housekeeping",
    ]
