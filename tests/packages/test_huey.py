"""Huey's consumer, with each kind of worker, on the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.packages.taskproject.work import COUNT
from tests.support.workers import PROJECT, WITHIN, Project, Worker, project

pytest.importorskip("huey", reason="huey isn't installed: make test-packages")

SEND = f"""
from {PROJECT} import tasks

def send(name, args):
    return getattr(tasks, name)(*args)

def outcome(sent):
    try:
        return sent.get(blocking=True, timeout={WITHIN}, backoff=1, max_delay=0.05)
    except Exception as error:
        return str(error)
"""


@dataclass(frozen=True, kw_only=True)
class Huey:
    """A consumer, and what sends it tasks: returns what they return, or the errors."""

    worker: Worker
    results: Callable[..., list[Any]]


@pytest.fixture(scope="module")
def tasks(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("huey")
    with project("huey", folder, django_db_blocker, "huey.contrib.djhuey") as made:
        yield made


@contextlib.contextmanager
def consumer(tasks: Project, kind: str, workers: int, pool: dict[str, Any]) -> Iterator[Huey]:
    command = [f"{PROJECT}.manage", "run_huey", "-k", kind, "-w", str(workers)]
    command += ["--delay=0.01", "--max-delay=0.1", "--no-periodic"]
    with (
        tasks.worker(*command, pool=pool) as worker,
        tasks.sender(SEND, worker.folder) as results,
    ):
        worker.wait_for_log("Huey consumer started")
        yield Huey(worker=worker, results=results)


def test_processes(tasks: Project) -> None:
    with consumer(tasks, "process", 2, {"max_size": 1, "timeout": 5}) as huey:
        answers = huey.results("session", count=12) + huey.results("bare_session", count=12)
        session_of = {answer["process"]: answer["session"] for answer in answers}
        assert {(a["process"], a["session"]) for a in answers} == set(session_of.items())
        assert {answer["in_use"] for answer in answers} == {0}
        assert set(session_of) <= set(tasks.pools())

        huey.results("change")
        assert huey.results("changes", count=6) == [["4MB", None]] * 6
        assert "DataError" in huey.results("fail", "in the database", count=4)[3]
        after = huey.results("session", count=6)
        assert {answer["session"] for answer in after} <= huey.worker.sessions()


@pytest.mark.parametrize("kind", ["thread", "greenlet"])
def test_waiting_tasks_hold_no_connection(tasks: Project, kind: str) -> None:
    """20 tasks that each query, wait for all of the others, and query: on 4 connections."""
    if kind == "greenlet":
        pytest.importorskip("gevent", reason="gevent isn't installed: make test-packages")
    with consumer(tasks, kind, COUNT, {"max_size": 4, "timeout": 5}) as huey:
        answers = huey.results("together", count=COUNT)
        assert {answer["process"] for answer in answers} == {huey.worker.process.pid}
        assert len(huey.worker.sessions()) <= 4
        assert "DataError" in huey.results("fail", "in the database", count=8)[7]
        huey.results("change", count=4)
        assert huey.results("changes", count=8) == [["4MB", None]] * 8
        huey.results("take", 0.1, "in Python", count=8)
