"""Django's tasks framework (6.0 and newer): tasks run at once, and by a worker of a database queue."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path

from tests.support.workers import PROJECT, WITHIN, Project, project

pytest.importorskip("django.tasks", reason="Django has tasks since 6.0")

ONE = {"max_size": 1, "timeout": 5}

SEND = f"""
import time
from {PROJECT} import background

def send(name, args):
    return getattr(background, name).enqueue(*args)

def outcome(sent):
    deadline = time.monotonic() + {WITHIN}
    while not sent.is_finished and time.monotonic() < deadline:
        time.sleep(0.02)
        sent.refresh()
    return sent.return_value if sent.status == "SUCCESSFUL" else sent.errors[0].exception_class_path
"""


def in_request(request: HttpRequest) -> JsonResponse:
    """Run a task where an `ImmediateBackend` runs it: within this request."""
    from tests.packages.taskproject import background, work

    before = work.session()
    inside = background.session.enqueue().return_value
    failed = background.fail.enqueue("in the database").status
    after = work.session()
    return JsonResponse(
        {
            "sessions": [a["session"] for a in (before, inside, after)],
            "failed": failed,
            "in_use": after["in_use"],
        }
    )


urlpatterns = [path("", in_request)]


@pytest.mark.django_db(transaction=True)
@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[])
def test_tasks_that_run_at_once_share_the_requests_connection() -> None:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
    environ |= {"SERVER_NAME": "testserver", "SERVER_PORT": "80"}
    response = WSGIHandler()(environ, lambda status, headers: None)
    answer = json.loads(b"".join(response))
    response.close()
    assert len(set(answer["sessions"])) == 1
    assert answer["failed"] == "FAILED"
    assert answer["in_use"] == 1
    assert connection.pool.statistics().in_use == 0


@pytest.fixture(scope="module")
def tasks(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    pytest.importorskip("django_tasks_db", reason="django-tasks-db isn't installed")
    folder = tmp_path_factory.mktemp("tasks")
    with project("tasks", folder, django_db_blocker, "django_tasks_db") as made:
        made.manage("migrate", "-v0")
        yield made


def test_a_worker_of_a_database_queue(tasks: Project) -> None:
    """Sessions survive tasks, and the queue's own queries between them."""
    command = [f"{PROJECT}.manage", "db_worker", "--interval=0.05", "--no-startup-delay"]
    with (
        tasks.worker(*command, pool=ONE) as worker,
        tasks.sender(SEND, tasks.folder) as results,
    ):
        answers = results("session", count=6)
        assert {answer["process"] for answer in answers} == {worker.process.pid}
        assert {answer["session"] for answer in answers} == worker.sessions()
        assert {(answer["connects"], answer["in_use"]) for answer in answers} == {(1, 0)}
        assert worker.process.pid in tasks.pools()

        results("change")
        assert results("changes") == [["4MB", None]]
        assert results("fail", "in the database") == ["django.db.utils.DataError"]
        assert results("session")[0]["connects"] == 1
