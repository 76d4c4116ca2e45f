"""RQ's workers on the engine: one that forks for each job, and one that doesn't."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.support.workers import PROJECT, WITHIN, Project, Worker, project, redis_server

rq = pytest.importorskip("rq", reason="rq isn't installed: make test-packages")
redis = pytest.importorskip("redis", reason="redis isn't installed: make test-packages")
pytest.importorskip("django_rq", reason="django-rq isn't installed: make test-packages")


@dataclass(frozen=True, kw_only=True)
class RQ:
    """A worker, and the queue it works on."""

    worker: Worker
    queue: Any

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.queue.enqueue(f"{PROJECT}.work.{name}", args=args, **options)

    def result(self, name: str, *args: Any, **options: Any) -> Any:
        job = self.send(name, *args, **options)
        wait_until(lambda: job.get_status().value in ("finished", "failed"), WITHIN)
        latest = job.latest_result()
        return latest.return_value if latest.exc_string is None else latest.exc_string


@pytest.fixture(scope="module")
def tasks(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    with project("rq", tmp_path_factory.mktemp("rq"), django_db_blocker, "django_rq") as made:
        yield made


@contextlib.contextmanager
def rq_worker(tasks: Project, *options: str, **settings: str) -> Iterator[RQ]:
    command = [f"{PROJECT}.manage", "rqworker", "default", *options]
    with (
        redis_server(tasks.folder) as url,
        tasks.worker(
            *command, pool={"max_size": 1, "timeout": 5}, TASKS_REDIS=url, **settings
        ) as worker,
        redis.Redis.from_url(url) as client,
    ):
        worker.wait_for_log("Listening on default")
        yield RQ(worker=worker, queue=rq.Queue(connection=client))


def test_the_session_of_a_job_ends_with_its_work_horse(tasks: Project) -> None:
    with rq_worker(tasks, TASKS_QUERY_AT_START="1") as started:
        (parents,) = started.worker.sessions()
        answers = [started.result("session") for _ in range(2)]
        assert answers[0]["process"] != answers[1]["process"]
        assert len({parents, *(answer["session"] for answer in answers)}) == 3
        started.worker.wait_for_sessions({parents})

        assert "DataError" in started.result("fail", "in the database")
        assert "JobTimeoutException" in started.result("take", 61, "in the database", job_timeout=1)
        started.worker.wait_for_sessions({parents})

        job = started.send("take", 62, "in the database")
        wait_until(lambda: started.worker.sessions("pg_sleep(62"), WITHIN)
        rq.command.send_stop_job_command(started.queue.connection, job.id)
        started.worker.wait_for_sessions({parents})
        assert started.result("session")["session"] != parents


def test_sessions_survive_jobs_of_a_worker_that_does_not_fork(tasks: Project) -> None:
    with rq_worker(tasks, "--worker-class=rq.SimpleWorker") as started:
        answers = [started.result("session") for _ in range(4)]
        assert {answer["process"] for answer in answers} == {started.worker.process.pid}
        assert len({answer["session"] for answer in answers}) == 1
        assert {answer["in_use"] for answer in answers} == {0}
        assert set(tasks.pools()) >= {started.worker.process.pid}
        assert "DataError" in started.result("fail", "in the database")
        assert "JobTimeoutException" in started.result("take", 61, "in the database", job_timeout=1)
        assert started.result("take", 0.1, "in Python") == 0.1


def test_what_a_job_does_to_its_session_stays_unless_it_returns_it(tasks: Project) -> None:
    """A worker that doesn't fork doesn't tell Django of a job's end."""
    with rq_worker(tasks, "--worker-class=rq.SimpleWorker") as started:
        first = started.result("change_and_return")
        assert started.result("changes") == ["4MB", None]
        started.result("change")
        assert started.result("changes") == ["7MB", "left_over"]
        assert started.result("session")["session"] == first["session"]
