"""Async sites under uvicorn."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.servers import (
    Server,
    connect,
    holding_requests,
    most_at_once,
    open_request,
    prepare_site,
    serving,
)
from tests.support.waiting import wait_until

pytest.importorskip("uvicorn", reason="uvicorn isn't installed: make test-packages")

APPLICATION = "testproject.asgi:application"
UVICORN = [sys.executable, "-m", "uvicorn", APPLICATION, "--port={port}", "--lifespan=off"]
GUNICORN = [sys.executable, "-m", "gunicorn", APPLICATION, "--bind=127.0.0.1:{port}"]
GUNICORN += ["--no-control-socket", "-kuvicorn_worker.UvicornWorker"]


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


@contextmanager
def uvicorn(**pool: Any) -> Iterator[Server]:
    with serving(*UVICORN, **pool) as server:
        yield server


def lost(server: Server) -> tuple[int, int]:
    """Return how many connections are lent now, and how many were reclaimed from dead threads."""
    (pool,) = server.pools().values()
    return pool["in_use"], pool["reclaimed"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn(max_size=4) as server:
        yield server


def test_200_requests_on_4_connections(server: Server) -> None:
    sleeping = ["/async/sleep/?ms=40"] * 100
    others = ["/async/books/", "/async/gather/", "/async/gather/?threads=own", "/pid"] * 25
    answers, most_sessions = server.watch(sleeping + others)
    assert {answer.status for answer in answers} == {200}, answers
    assert most_at_once(answers[:100]) == 4
    assert most_sessions == 4
    assert lost(server) == (0, 0)


def test_what_async_code_gets(server: Server) -> None:
    with connect() as database:
        names = [
            name for (name,) in database.execute("SELECT name FROM library_author ORDER BY id")
        ]
    books = server.get("/async/books/").data
    assert books["author"] == names[0]
    assert books["titles"]
    # One thread, and so one connection, for all that a request asks; unless it asks otherwise.
    assert len(set(server.get("/async/gather/").data["pids"])) == 1
    assert len(set(server.get("/async/gather/?threads=own").data["pids"])) <= 4
    assert server.get("/async/stream/").body.splitlines() == names
    assert lost(server) == (0, 0)


def test_nested_calls_with_one_connection() -> None:
    """A thread of its own waits for what its caller holds; unless that goes back early."""
    with uvicorn(max_size=1, timeout=1) as server:
        outer, inner = server.get("/async/nested/").data["pids"]
        assert outer == inner
        assert server.get("/async/nested/?threads=own").status == 500
        assert server.get("/async/nested/").status == 200
    with uvicorn(max_size=1, return_at="transaction") as server:
        outer, inner = server.get("/async/nested/?threads=own").data["pids"]
        assert outer == inner


def test_clients_that_go_away_take_no_connection_with_them() -> None:
    with uvicorn(max_size=2) as server:
        for path in ["/lock/", "/async/lock/"]:
            _go_away(server, path)
            # The answer comes after the site was told of those that went away.
            assert server.get("/ping").status == 200
            wait_until(lambda: lost(server) == (0, 0), within=30)
        answers = server.get_all(["/sleep/?ms=250"] * 2)
        assert most_at_once(answers) == 2
        (pool,) = server.pools().values()
        assert (pool["size"], pool["dead"]) == (2, 0)


def _go_away(server: Server, path: str) -> None:
    """Send two requests, and hang up while they wait in the database."""
    key = server.port
    waiting = "wait_event = 'advisory'"

    async def go_away() -> None:
        opened = [await open_request(server.port, f"{path}?key={key}") for _ in range(2)]
        await asyncio.to_thread(wait_until, lambda: server.sessions(waiting) == 2, 30)
        for _, writer in opened:
            writer.close()
            await writer.wait_closed()

    with connect() as database:
        database.execute("SELECT pg_advisory_lock(%s)", [key])
        asyncio.run(go_away())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (UVICORN, "Shutting down"),
        ([*UVICORN, "--workers=2"], "Received SIGTERM"),
        ([*GUNICORN, "--workers=2"], "Handling signal: term"),
    ],
    ids=["uvicorn", "uvicorn --workers", "gunicorn"],
)
def test_sigterm_lets_requests_finish(command: list[str], said: str) -> None:
    if "gunicorn" in command:
        pytest.importorskip("uvicorn_worker", reason="uvicorn-worker isn't installed")
    with serving(*command, max_size=4) as server:
        with holding_requests(server, 4):
            served = {pid: pool["in_use"] for pid, pool in server.pools().items()}
            assert sum(served.values()) == 4
        server.stop_under_load(4, signal.SIGTERM, said)
