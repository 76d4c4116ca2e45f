"""Clients leave sites under WSGI servers: what these did for them stops."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.leaving import (
    GONE,
    ask,
    begun,
    check_change_is_finished,
    check_second_request_is_no_hang_up,
    check_statement,
    check_wait,
    is_idle,
    is_stopped,
    leaving,
)
from tests.support.servers import Server, prepare_site, program
from tests.support.waiting import wait_until

APPLICATION = "testproject.wsgi:application"
GUNICORN = [sys.executable, "-m", "gunicorn", APPLICATION, "--bind=127.0.0.1:{port}"]
GUNICORN += ["--no-control-socket"]
SYNC = [*GUNICORN, "-ksync"]
GTHREAD = [*GUNICORN, "-kgthread", "--threads=8"]
GEVENT = [*GUNICORN, "-kgevent"]
WAITRESS = [program("waitress-serve"), "--listen=127.0.0.1:{port}", "--threads=8"]
WAITRESS += ["--channel-request-lookahead=1", APPLICATION]
RUNSERVER = [sys.executable, "-m", "testproject.manage", "runserver", "--noreload"]
RUNSERVER += ["127.0.0.1:{port}"]
UWSGI = [program("uwsgi"), "--http-socket=127.0.0.1:{port}", "--master", "--need-app"]
UWSGI += ["--threads=8", "--enable-threads", f"--module={APPLICATION}", "--lazy-apps"]
UWSGI += ["--hook-master-start=unix_signal:15 gracefully_kill_them_all"]
UWSGI += [f"--virtualenv={Path(program('uwsgi')).parents[1]}"]

SERVERS = {
    "gunicorn sync": SYNC,
    "gunicorn gthread": GTHREAD,
    "gunicorn gevent": GEVENT,
    "waitress": WAITRESS,
    "runserver": RUNSERVER,
    "uwsgi": UWSGI,
}


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


@pytest.mark.parametrize("name", SERVERS)
def test_a_statement_stops(name: str) -> None:
    with leaving(*SERVERS[name]) as server:
        check_statement(server, server.port)


@pytest.mark.parametrize("name", SERVERS)
def test_a_wait_for_a_connection_stops(name: str) -> None:
    with leaving(*SERVERS[name], max_size=1) as server:
        check_wait(server, server.port)


@pytest.mark.parametrize("name", SERVERS)
def test_a_second_request_on_the_same_connection_is_no_hang_up(name: str) -> None:
    with leaving(*SERVERS[name]) as server:
        check_second_request_is_no_hang_up(server, server.port)


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "gunicorn sync"])
def test_a_change_is_finished(name: str) -> None:
    with leaving(*SERVERS[name]) as server:
        check_change_is_finished(server, server.port)


def test_a_statement_stops_behind_uwsgis_own_router() -> None:
    command = [part.replace("--http-socket", "--http") for part in UWSGI]
    with leaving(*command) as server:
        check_statement(server, server.port)


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread"])
def test_a_statement_stops_over_a_unix_socket(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "site")
    with leaving(*SERVERS[name], f"--bind=unix:{path}") as server:
        check_statement(server, path)


def test_a_statement_stops_with_return_at_transaction() -> None:
    with leaving(*GTHREAD, return_at="transaction") as server:
        check_statement(server, server.port)


@pytest.fixture(scope="module")
def gthread() -> Iterator[Server]:
    with leaving(*GTHREAD) as server:
        yield server


def test_a_client_that_closes_its_side_only_has_gone(gthread: Server) -> None:
    lines = gthread.log.count(GONE)
    with closing(ask(gthread.port, "/slow/")) as client:
        begun(gthread)
        client.shutdown(socket.SHUT_WR)
        # As nginx' own log has it.
        assert client.recv(100).startswith(b"HTTP/1.1 499 ")
    is_stopped(gthread, lines=lines + 1)


def test_views_say_otherwise(gthread: Server) -> None:
    lines = gthread.log.count(GONE)
    with closing(ask(gthread.port, "/slow/finished/?seconds=1")):
        begun(gthread)
    wait_until(lambda: "GET slept well" in gthread.log, within=30)
    assert gthread.log.count(GONE) == lines
    with closing(ask(gthread.port, "/slow/canceled/", "POST")):
        begun(gthread)
    is_stopped(gthread, lines=lines + 1)


def test_a_view_that_goes_on_after_errors_runs_no_further_statement(gthread: Server) -> None:
    lines = gthread.log.count(GONE)
    with closing(ask(gthread.port, "/goes_on/")):
        begun(gthread)
    is_stopped(gthread, lines=lines + 1)
    assert gthread.log.count("went on after RequestAbandoned") == 3


def test_the_body_of_a_streaming_response_is_not_canceled(gthread: Server) -> None:
    """The middleware is through by then."""
    lines = gthread.log.count(GONE)
    with closing(ask(gthread.port, "/stream/?seconds=1")) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        begun(gthread)
    wait_until(lambda: gthread.sessions("state = 'active'") == 0, within=30)
    is_idle(gthread)
    assert gthread.log.count(GONE) == lines


def test_the_deadline_of_all_requests() -> None:
    with leaving(*GTHREAD, env={"REQUEST_DEADLINE": "0.5"}) as server:
        answer = server.get("/slow/")
        assert (answer.status, answer.body) == (
            503,
            "This took too long. Please try again later.\n",
        )
        assert server.get("/ping").status == 200
        wait_until(lambda: "the deadline of 0.5 s has passed" in server.log)
        is_idle(server)


def test_waitress_that_does_not_look_ahead_lets_nobody_know() -> None:
    command = [part for part in WAITRESS if "lookahead" not in part]
    with leaving(*command) as server:
        with closing(ask(server.port, "/slow/?seconds=1")):
            begun(server)
        wait_until(lambda: "GET slept well" in server.log, within=30)
        assert GONE not in server.log
