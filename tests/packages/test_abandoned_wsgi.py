"""Clients leave sites under WSGI servers: what these did for them stops."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.leaving import check_statement, check_wait, leaving
from tests.support.servers import prepare_site, program

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
