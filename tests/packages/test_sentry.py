"""Sentry's Django integration: it shows each borrow the way it shows Django's connect()."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.processes import HOLD, run_script

pytest.importorskip("sentry_sdk", reason="sentry-sdk isn't installed: make test-packages")

SITE = (
    HOLD
    + """
import sys, threading, time
from io import BytesIO
import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.urls import path

caught, created, states = [], [], []
connection_created.connect(lambda connection, **kwargs: created.append(connection.alias), weak=False)

class Transport(sentry_sdk.Transport):
    def capture_envelope(self, envelope):
        caught.extend(item.payload.json for item in envelope.items if item.type in WANTED)

WANTED = ["transaction", "event"]

def init():
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", transport=Transport, traces_sample_rate=1.0,
        default_integrations=False, integrations=[DjangoIntegration(signals_spans=False)],
    )

def books(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany("SELECT %s", [(1,), (2,)])
        states.append((connection.in_atomic_block, connection.get_autocommit()))
    states.append((connection.in_atomic_block, connection.get_autocommit()))
    return HttpResponse("ok")

def other(request):
    with connections[request.path.strip("/")].cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok")

def failing(request):
    try:
        connection.cursor()
    except OperationalError as ex:
        states.append((type(ex).__name__, str(ex), type(ex.__cause__).__name__))
        raise
    return HttpResponse("ok")

urlpatterns = [
    path("books", books), path("other", other), path("sqlite", other), path("failing", failing),
]
application = get_wsgi_application()

def get(name):
    status = []
    response = application(
        {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/" + name, "SERVER_NAME": "testserver",
            "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": BytesIO(),
        },
        lambda line, headers: status.append(line),
    )
    list(response)
    response.close()
    return status

def spans():
    sentry_sdk.flush()
    return [
        [span for span in each["spans"] if span["op"] == "db"]
        for each in caught if each.get("type") == "transaction"
    ]

def answer(**values):
    print(json.dumps({
        "spans": spans(), "created": created, "states": states,
        "events": [each for each in caught if each.get("type") != "transaction"], **values,
    }))

def busy(seconds):
    # Another thread has the only connection, until somebody has waited for so long.
    holds = threading.Event()
    def keep():
        connection.ensure_connection()
        holds.set()
        while not connection.pool.statistics().waiting:
            time.sleep(0.005)
        time.sleep(seconds)
        connection.close()
    thread = threading.Thread(target=keep)
    thread.start()
    holds.wait(30)
    return thread
"""
)

# Before Django has loaded the engine, and after.
EARLY = """
assert "django_pooled_pg.wrapper" not in sys.modules
init()
assert connection.pool
"""
LATE = """
assert connection.pool
init()
"""


def run(script: str, database: dict[str, Any], pool: Any, **others: Any) -> dict[str, Any]:
    default = {**database, "OPTIONS": {"pool": pool}}
    answer: dict[str, Any] = json.loads(
        run_script(
            SITE + script,
            {"default": default, **others},
            ROOT_URLCONF="__main__",
            ALLOWED_HOSTS=["testserver"],
            SECRET_KEY="for this test",
            LOGGING={"version": 1, "loggers": {"django.request": {"level": "CRITICAL"}}},
        )
    )
    return answer


def named(spans: list[dict[str, Any]]) -> list[str]:
    return [span["description"] for span in spans]


@pytest.mark.parametrize(
    ("init", "return_at"),
    [(EARLY, "request"), (LATE, "transaction")],
    ids=["early, request", "late, transaction"],
)
def test_each_borrow_has_its_span_as_each_query_has(
    database: dict[str, Any], init: str, return_at: str
) -> None:
    script = 'get("books"); get("books"); answer()'
    answer = run(init + script, database, {"return_at": return_at})
    once = ["connect", "SELECT 1", "connect", "SELECT %s"]
    if return_at == "request":
        once = ["connect", "SELECT 1", "SELECT %s"]
    assert [named(spans) for spans in answer["spans"]] == [once, once]
    for span in [*answer["spans"][0], *answer["spans"][1]]:
        assert span["data"]["db.system"] == "postgresql"
        assert span["data"]["db.name"] == database["NAME"]
        assert "status" not in span
    assert answer["created"] == ["default"], "sent for new sessions, not for each borrow"
    assert answer["states"] == [[True, False], [False, True]] * 2


def test_the_span_is_as_long_as_the_wait(database: dict[str, Any]) -> None:
    script = """
thread = busy(0.3)
status = get("books")
thread.join()
from datetime import datetime
answer(status=status, seconds=[
    (datetime.fromisoformat(s["timestamp"]) - datetime.fromisoformat(s["start_timestamp"])).total_seconds()
    for s in spans()[0]
])
"""
    answer = run(EARLY + script, database, {"max_size": 1, "timeout": 30})
    assert answer["status"] == ["200 OK"]
    assert named(answer["spans"][0]) == ["connect", "SELECT 1", "SELECT %s"]
    assert answer["seconds"][0] >= 0.3


def test_an_exhausted_pool_marks_the_span_and_is_reported_as_itself(
    database: dict[str, Any],
) -> None:
    script = """
hold(connection)
thread = threading.Thread(target=get, args=["failing"])
thread.start()
thread.join()
answer()
"""
    answer = run(EARLY + script, database, {"max_size": 1, "timeout": 0.1})
    [[span]] = answer["spans"]
    assert (span["description"], span["status"]) == ("connect", "internal_error")
    [[kind, text, cause]] = answer["states"]
    assert (kind, cause) == ("PoolExhausted", "PoolTimeout")
    assert "no connection was free within 0.1 s" in text
    reported = [each["type"] for each in answer["events"][0]["exception"]["values"]]
    assert reported == ["PoolTimeout", "PoolExhausted"]
    crumbs = [each["message"] for each in answer["events"][0]["breadcrumbs"]["values"]]
    assert crumbs.count("connect") == 1


def test_other_databases_of_the_site_connect_as_ever(database: dict[str, Any]) -> None:
    script = """
get("books"), get("other"), get("sqlite"), get("books")
connections.close_all()
answer()
"""
    answer = run(
        EARLY + script,
        database,
        True,
        other={**database, "OPTIONS": {"pool": False}},
        sqlite={"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    )
    books, other, sqlite, again = map(named, answer["spans"])
    assert books == again == ["connect", "SELECT 1", "SELECT %s"]
    assert other == ["connect", "SELECT 1"]
    assert [name for name in sqlite if "PRAGMA" not in name] == ["connect", "SELECT 1"]
    assert answer["created"] == ["default", "other", "sqlite"]
