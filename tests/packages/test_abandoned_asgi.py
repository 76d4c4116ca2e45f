"""Clients leave sites under ASGI servers: what threads did for them stops."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest

from tests.support.leaving import (
    GONE,
    ask,
    begun,
    check_change_is_finished,
    check_second_request_is_no_hang_up,
    check_statement,
    check_wait,
    leaving,
)
from tests.support.servers import prepare_site
from tests.support.waiting import wait_until

APPLICATION = "testproject.asgi:application"
UVICORN = [sys.executable, "-m", "uvicorn", APPLICATION, "--port={port}", "--lifespan=off"]
DAPHNE = [sys.executable, "-m", "daphne", "--port={port}", APPLICATION]
HYPERCORN = [sys.executable, "-m", "hypercorn", "--bind=127.0.0.1:{port}", APPLICATION]

GUNICORN = [sys.executable, "-m", "gunicorn", APPLICATION, "--bind=127.0.0.1:{port}"]
GUNICORN += ["--no-control-socket"]

SERVERS = {
    "uvicorn": UVICORN,
    "gunicorn, uvicorn_worker": [*GUNICORN, "-kuvicorn_worker.UvicornWorker"],
    "gunicorn, asgi": [*GUNICORN, "-kasgi"],
    "daphne": DAPHNE,
    "hypercorn": HYPERCORN,
}
VIEWS = {
    "a sync view": "/slow/",
    "an async view": "/async/slow/",
    "a thread of its own": "/async/slow/own/",
}


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", SERVERS)
def test_a_statement_stops(name: str, view: str) -> None:
    with leaving(*SERVERS[name]) as server:
        check_statement(server, server.port, VIEWS[view])


@pytest.mark.parametrize("name", SERVERS)
def test_a_wait_for_a_connection_stops(name: str) -> None:
    with leaving(*SERVERS[name], max_size=1) as server:
        check_wait(server, server.port)


@pytest.mark.parametrize("name", SERVERS)
def test_a_second_request_on_the_same_connection_is_no_hang_up(name: str) -> None:
    with leaving(*SERVERS[name]) as server:
        check_second_request_is_no_hang_up(server, server.port)


@pytest.mark.parametrize("name", SERVERS)
def test_a_change_is_finished(name: str) -> None:
    with leaving(*SERVERS[name]) as server:
        check_change_is_finished(server, server.port)


SYNC_ONLY = "tests.support.web.leaving_urls.sync_only"


def test_sync_only_middleware_before_it_passes_the_news_on() -> None:
    with leaving(*UVICORN, env={"FIRST_MIDDLEWARE": SYNC_ONLY}) as server:
        check_statement(server, server.port)


def test_sync_only_middleware_after_it_keeps_the_news_away() -> None:
    """Django then runs the middleware in a thread, which it doesn't tell of clients."""
    with leaving(*UVICORN, env={"LAST_MIDDLEWARE": SYNC_ONLY}) as server:
        with closing(ask(server.port, "/slow/?seconds=1")):
            begun(server)
        wait_until(lambda: "GET slept well" in server.log, within=30)
        assert GONE not in server.log
        said = "isn't told when clients leave under ASGI"
        assert server.log.count(said) == 1


def test_sync_only_middleware_after_it_keeps_nothing_away_if_it_is_async_only() -> None:
    env = {"LAST_MIDDLEWARE": SYNC_ONLY, "OURS": "tests.support.web.leaving_urls.AsyncOnly"}
    with leaving(*UVICORN, env=env) as server:
        check_statement(server, server.port)
