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

SERVERS = {"uvicorn": UVICORN, "daphne": DAPHNE, "hypercorn": HYPERCORN}
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


@pytest.mark.parametrize("place", ["first", "last"])
def test_sync_middleware(place: str) -> None:
    """Where Django runs the middleware in a thread, it learns nothing of clients."""
    extra = {f"{place.upper()}_MIDDLEWARE": "tests.support.web.leaving_urls.sync_only"}
    with leaving(*UVICORN, env=extra) as server:
        with closing(ask(server.port, "/slow/?seconds=2")):
            begun(server)
        wait_until(lambda: server.sessions("state = 'active'") == 0, within=30)
        print(place, server.log)
        assert server.get("/ping").status == 200
        print(GONE in server.log)
