"""Celery's workers, with each kind of pool, on the engine, with Celery's Django fixup."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.packages.taskproject.work import COUNT
from tests.support.waiting import wait_until
from tests.support.workers import PROJECT, WITHIN, Project, Worker, project, redis_server

celery = pytest.importorskip("celery", reason="celery isn't installed: make test-packages")
pytest.importorskip("redis", reason="redis isn't installed: make test-packages")

# A slot that is lost shows at once.
ONE = {"max_size": 1, "timeout": 5}


@pytest.fixture(scope="module")
def tasks(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    with project("celery", tmp_path_factory.mktemp("celery"), django_db_blocker) as made:
        yield made


@dataclass(frozen=True, kw_only=True)
class Celery:
    """A worker, and an app that sends it tasks."""

    worker: Worker
    producer: Any

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.producer.send_task(name, args, **options)

    def results(self, name: str, *args: Any, count: int) -> list[Any]:
        """Send the task `count` times at once; return what they return."""
        return [wait_for(sent) for sent in [self.send(name, *args) for _ in range(count)]]

    def result(self, name: str, *args: Any) -> Any:
        return wait_for(self.send(name, *args))

    def occupy(self) -> set[int]:
        """Have each of two children use the database; return the sessions."""

        def all_have_one() -> set[int]:
            self.results("take", 0.2, "in Python", count=2)
            sessions = self.worker.sessions()
            return sessions if len(sessions) == 2 else set()

        return wait_until(all_have_one, WITHIN)


def wait_for(sent: Any) -> Any:
    return sent.get(timeout=WITHIN, interval=0.05)


def error_of(sent: Any) -> str:
    """Wait for a task that fails; return the name of its error."""
    error = sent.get(timeout=WITHIN, interval=0.05, propagate=False)
    assert isinstance(error, Exception), error
    return type(error).__name__


@contextlib.contextmanager
def celery_worker(tasks: Project, *options: str, **settings: Any) -> Iterator[Celery]:
    command = ["celery", "-A", f"{PROJECT}.celery_app", "worker", "--loglevel=info"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (
        redis_server(tasks.folder) as url,
        tasks.worker(*command, *options, TASKS_REDIS=url, **settings) as worker,
        celery.Celery(
            "producer", broker=url, backend=url, set_as_current=False, fixups=[]
        ) as producer,
    ):
        worker.wait_for_log(" ready.")
        yield Celery(worker=worker, producer=producer)


@pytest.fixture(scope="module")
def prefork(tasks: Project) -> Iterator[Celery]:
    """A worker with two children, each of which may have one connection."""
    with celery_worker(tasks, "--pool=prefork", "--concurrency=2", pool=ONE) as started:
        yield started


def test_sessions_survive_tasks(prefork: Celery) -> None:
    """Although Celery's fixup calls close_pool() before and after each task."""
    answers = prefork.results("session", count=12)
    session_of = {answer["process"]: answer["session"] for answer in answers}
    assert {(a["process"], a["session"]) for a in answers} == set(session_of.items())
    assert {answer["in_use"] for answer in answers} == {0}


def test_poolstats_lists_the_children(tasks: Project, prefork: Celery) -> None:
    children = {answer["process"] for answer in prefork.results("session", count=6)}
    pools = tasks.pools()
    assert children <= set(pools)
    assert prefork.worker.process.pid not in pools
    assert {pools[child]["max_size"] for child in children} == {1}


def test_what_a_task_does_to_its_session_ends_with_it(prefork: Celery) -> None:
    prefork.occupy()
    changed = [prefork.result("change") for _ in range(2)]
    assert prefork.results("changes", count=6) == [["4MB", None]] * 6
    answers = prefork.results("session", count=6)
    assert {a["session"] for a in changed} <= {a["session"] for a in answers}, "reset, not closed"


@pytest.mark.parametrize("where", ["in Python", "in the database"])
def test_a_task_that_fails_keeps_no_slot(prefork: Celery, where: str) -> None:
    before = prefork.occupy()
    errors = {error_of(prefork.send("fail", where)) for _ in range(4)}
    assert errors == {"RuntimeError" if where == "in Python" else "DataError"}
    assert prefork.occupy() == before


@pytest.mark.parametrize("where", ["in Python", "in the database"])
def test_a_task_that_exceeds_its_soft_limit_keeps_no_slot(prefork: Celery, where: str) -> None:
    sent = prefork.send("take", 61, where, soft_time_limit=1)
    assert error_of(sent) == "SoftTimeLimitExceeded"
    prefork.occupy()
    wait_until(lambda: not prefork.worker.sessions("pg_sleep(61"), WITHIN)


def test_a_task_ends_at_its_deadline(prefork: Celery) -> None:
    before = prefork.occupy()
    assert error_of(prefork.send("take_in_time", 63, "in the database")) == "DeadlineExceeded"
    assert prefork.result("take", 0.6, "in the database") == 0.6, "the next has none"
    assert prefork.occupy() == before
    assert not prefork.worker.sessions("pg_sleep(63")


@pytest.mark.parametrize("where", ["in Python", "in the database"])
def test_a_child_that_is_killed_for_its_task_leaves_no_session(prefork: Celery, where: str) -> None:
    before = prefork.occupy()
    sent = prefork.send("take", 62, where, time_limit=1)
    assert error_of(sent) == "TimeLimitExceeded"
    wait_until(lambda: len(before & prefork.worker.sessions()) == 1, WITHIN)
    assert len(before & prefork.occupy()) == 1


def test_a_revoked_task_leaves_no_session(prefork: Celery) -> None:
    sent = prefork.send("take", 63, "in the database")
    wait_until(lambda: prefork.worker.sessions("pg_sleep(63"), WITHIN)
    prefork.producer.control.revoke(sent.id, terminate=True)
    assert error_of(sent) == "TaskRevokedError"
    wait_until(lambda: not prefork.worker.sessions("pg_sleep(63"), WITHIN)
    prefork.occupy()


def test_a_pool_that_shrinks_leaves_no_session(prefork: Celery) -> None:
    before = prefork.occupy()

    def shrinks() -> bool:
        # Refused until Celery has noticed that a child is done, which may be after the result.
        control = prefork.producer.control
        (reply,) = control.pool_shrink(1, reply=True, limit=1, timeout=WITHIN)
        return all("ok" in answer for answer in reply.values())

    wait_until(shrinks, WITHIN)
    wait_until(lambda: len(prefork.worker.sessions()) == 1, WITHIN)
    assert prefork.worker.sessions() < before
    prefork.producer.control.pool_grow(1)
    prefork.occupy()


def test_tasks_sent_on_commit_hold_nothing_and_see_it(prefork: Celery) -> None:
    assert prefork.result("order", 7) == 0
    assert 7 in wait_for(prefork.producer.AsyncResult("marked-7"))


def test_children_that_have_done_their_tasks_leave_no_session(tasks: Project) -> None:
    options = ["--pool=prefork", "--concurrency=1", "--max-tasks-per-child=2"]
    with celery_worker(tasks, *options, pool=ONE, TASKS_PARENT_QUERIES="1") as started:
        answers = [started.result("session") for _ in range(3)]
        assert answers[0]["process"] == answers[1]["process"] != answers[2]["process"]
        assert answers[0]["session"] == answers[1]["session"] != answers[2]["session"]
        parents = set((started.worker.folder / "parent").read_text().split())
        assert len(parents) == 1, "it keeps its session"
        started.worker.wait_for_sessions({int(parents.pop()), answers[-1]["session"]})


def test_reuse_max_is_harmless(tasks: Project) -> None:
    """With it the fixup closes connections, and calls close_pool(), after some tasks only."""
    options = ["--pool=prefork", "--concurrency=1"]
    with celery_worker(tasks, *options, pool=ONE, TASKS_REUSE="2") as started:
        errors = {error_of(started.send("fail", "in the database")) for _ in range(6)}
        assert errors == {"DataError"}
        assert len({started.result("session")["session"] for _ in range(6)}) == 1


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_waiting_tasks_hold_no_connection(tasks: Project, pool: str) -> None:
    """20 tasks that each query, wait for all of the others, and query: on 4 connections."""
    if pool == "gevent":
        pytest.importorskip("gevent", reason="gevent isn't installed: make test-packages")
    options = [f"--pool={pool}", f"--concurrency={COUNT}"]
    with celery_worker(tasks, *options, pool={"max_size": 4}) as started:
        answers = started.results("together", count=COUNT)
        assert {answer["process"] for answer in answers} == {started.worker.process.pid}
        assert len(started.worker.sessions()) <= 4


def test_eager_tasks_and_an_embedded_worker_in_a_test_run(tasks: Project) -> None:
    """The run drops its database at the end: no session may be left then."""
    tasks.manage("test", f"{PROJECT}.eager", "--noinput", TASKS_EAGER="1")
