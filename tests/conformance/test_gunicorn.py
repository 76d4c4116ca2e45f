"""Sites under gunicorn, with each of its kinds of workers."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.servers import SETTINGS as SETTINGS
from tests.support.servers import (
    Server,
    holding_requests,
    manage,
    most_at_once,
    prepare_site,
    serving,
)
from tests.support.waiting import wait_until

CONNECTIONS = 10
# Of each kind, what lets it have as many queries at once as there are connections, and the
# `max_size` that goes with it.
KINDS = {
    # Forked from one that has loaded the site: ten that load it take their time.
    "sync": (["-ksync", f"--workers={CONNECTIONS}", "--preload"], 1),
    "gthread": (["-kgthread", "--threads=32"], CONNECTIONS),
    "gevent": (["-kgevent"], CONNECTIONS),
}


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


@contextlib.contextmanager
def served(*arguments: str, application: str = "testproject.wsgi", **pool: Any) -> Iterator[Server]:
    command = [sys.executable, "-m", "gunicorn", f"{application}:application"]
    command += ["--bind=127.0.0.1:{port}", "--no-control-socket", *arguments]
    with serving(*command, **pool) as server:
        yield server


@contextlib.contextmanager
def gunicorn(*arguments: str, application: str = "testproject.wsgi") -> Iterator[str]:
    """Serve; yields the site's URL."""
    with served(*arguments, application=application) as server:
        yield server.url


def pid(url: str) -> dict[str, Any]:
    def ask() -> Any:
        try:
            with urllib.request.urlopen(f"{url}/pid", timeout=10) as response:
                return json.load(response)
        except urllib.error.URLError:
            return None  # not up yet

    answer: dict[str, Any] = wait_until(ask, within=30)
    return answer


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_an_exhausted_process_says_that_it_is_ready(kind: str) -> None:
    with served(f"-k{kind}", "--threads=8", max_size=2) as server:
        with holding_requests(server, 5, in_database=2) as answers:
            wait_until(lambda: [pool["waiting"] for pool in server.pools().values()] == [3])
            said = {"ready": True, "paused": False, "exhausted": True, "error": None}
            for asked in ("/pools/ready", "/pools/ready?query"):
                assert server.get(asked).data == {"ready": True, "pools": {"default": said}}
            assert server.sessions() == 2
        assert {answer.status for answer in answers()} == {200}


def test_poolstats_lists_all_workers_and_their_figures_move() -> None:
    with served("--workers=3", "--threads=2") as server:
        answered = set()

        def all_answered() -> bool:
            answered.add(server.get("/pid").data["pid"])
            return len(answered) == 3

        wait_until(all_answered, within=30)
        before = server.pools()
        assert set(before) == answered
        for _ in range(30):
            server.get("/pid")
        after = server.pools()
        assert set(after) == answered
        moved = sum(after[p]["borrows"] - before[p]["borrows"] for p in answered)
        assert moved == 30
        assert all(pool["in_use"] == 0 for pool in after.values())
        assert sum(pool["connects"] for pool in after.values()) <= 6
        table = manage("poolstats")
        assert all(f"default  {pid} gunicorn " in table for pid in answered), table
        server.stop()
        assert server.pools() == {}


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_preload_with_queries_at_import(worker: str) -> None:
    application = "tests.support.preloading"
    with served("--preload", "--workers=2", f"-k{worker}", application=application) as server:
        sessions: dict[int, set[int]] = {}

        def both_answered() -> bool:
            answer = server.get("/pid").data
            sessions.setdefault(answer["pid"], set()).add(answer["pg_backend_pid"])
            return len(sessions) == 2

        wait_until(both_answered, within=30)
        first, second = sessions.values()
        assert not first & second, "workers share a server session"


def test_poolstats_lists_workers_that_were_prewarmed_after_a_fork() -> None:
    with served("--preload", "--workers=2", prewarm=True) as server:
        # The parent, which prewarmed as well, and both workers, though none had a request.
        wait_until(lambda: len(server.pools()) == 3, within=30)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_queries_at_once_as_connections_and_a_graceful_stop(kind: str) -> None:
    arguments, max_size = KINDS[kind]
    with served(*arguments, max_size=max_size) as server:
        if kind == "sync":
            booted = "Booting worker with pid"
            wait_until(lambda: server.log.count(booted) == CONNECTIONS, within=30)
        answers, most_sessions = server.watch(["/sleep/?ms=250"] * 100)
        assert [answer.status for answer in answers] == [200] * 100
        assert most_at_once(answers) == CONNECTIONS
        assert most_sessions == CONNECTIONS
        assert len({answer.data["pid"] for answer in answers}) == CONNECTIONS
        server.stop_under_load(CONNECTIONS, signal.SIGTERM, said="Handling signal: term")


@pytest.mark.parametrize(
    "preload",
    # Without the configuration, gunicorn would load psycopg before it patches.
    [[], ["--preload", "--config=python:tests.support.web.gevent_first"]],
    ids=["plain", "preload"],
)
def test_gevent_waits_for_the_database_and_the_pool_without_stopping_others(
    preload: list[str],
) -> None:
    with served("-kgevent", *preload, max_size=4) as server:
        # Four wait in the database, and as many for a connection.
        with holding_requests(server, 8, in_database=4) as answers:
            assert server.get("/ping").body == "pong"
        assert [answer.status for answer in answers()] == [200] * 8


@pytest.mark.parametrize("prewarm", [False, True])
def test_gevent_that_patches_too_late_is_refused(prewarm: bool) -> None:
    with served("-kgevent", "--preload", prewarm=prewarm) as server:
        for _ in range(2):
            assert "gevent patched this process after Django" in server.get("/refusal/").body
        assert server.sessions() == prewarm  # the parent's


SHARING = {
    "sync": ["-ksync", "--workers=4", "--preload"],
    "gthread": ["-kgthread", "--workers=2", "--threads=8"],
    "gevent": ["-kgevent", "--workers=2"],
}


@pytest.mark.parametrize("kind", SHARING)
def test_workers_share_a_budget_and_a_reload_fails_no_request(kind: str) -> None:
    with served(*SHARING[kind], budget=3, budget_name=f"gunicorn's {kind}") as server:
        with ThreadPoolExecutor(1) as executor:
            watching = executor.submit(server.watch, ["/sleep/?ms=100"] * 60)
            wait_until(lambda: server.sessions() > 0, within=30)
            server.process.send_signal(signal.SIGHUP)
            answers, most_sessions = watching.result()
        assert [answer.status for answer in answers] == [200] * 60
        assert 1 < most_sessions <= 3
