"""A project that used Django's own pool changes ENGINE, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.processes import run_script

SCRIPT = """
import threading
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory
from django.http import HttpResponse
from django.urls import path
import sys, types

def view(request):
    with transaction.atomic():
        return HttpResponse(str(backend_pid()))

urls = types.ModuleType("urls")
urls.urlpatterns = [path("", view)]
sys.modules["urls"] = urls
handler = WSGIHandler()

def request():
    response = handler(RequestFactory().get("/").environ, lambda *args: None)
    pid = int(b"".join(response))
    response.close()
    return pid

pids = set()
for _ in range(20):
    pids.add(request())
threads = [threading.Thread(target=lambda: pids.add(request())) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert 1 <= len(pids) <= 3, pids
connection.close_pool()
"""

OPTIONS: list[dict[str, Any]] = [
    {"min_size": 1, "max_size": 3, "timeout": 10, "max_idle": 60, "max_lifetime": 600},
    {"min_size": 0, "max_size": 2, "num_workers": 1, "name": "books", "max_waiting": 50},
    {
        "min_size": 2,
        "max_size": 3,
        "check": "psycopg_pool.ConnectionPool.check_connection",
        "reconnect_timeout": 30,
    },
]


@pytest.mark.parametrize("pool", OPTIONS, ids=["sizes", "name", "check"])
@pytest.mark.parametrize("health_checks", [False, True])
def test_the_same_settings_work(
    database: dict[str, Any], pool: dict[str, Any], health_checks: bool
) -> None:
    databases = {
        "default": {**database, "CONN_HEALTH_CHECKS": health_checks, "OPTIONS": {"pool": pool}}
    }
    run_script(SCRIPT, databases, ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"])
