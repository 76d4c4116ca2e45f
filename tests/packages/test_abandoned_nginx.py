"""Clients leave sites behind nginx with its defaults: what the sites did for them stops."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.packages.test_abandoned_asgi import DAPHNE, HYPERCORN, UVICORN
from tests.packages.test_abandoned_wsgi import GEVENT, GTHREAD, SYNC, UWSGI, WAITRESS
from tests.support.leaving import ask, begun, check_statement, check_wait, is_stopped, leaving
from tests.support.nginx import nginx
from tests.support.servers import Server, prepare_site
from tests.support.waiting import wait_until

HTTP = "proxy_pass http://{upstream};"
UWSGI_PROTOCOL = "include /etc/nginx/uwsgi_params; uwsgi_pass {upstream};"

OVER_TCP = {
    "gunicorn sync": SYNC,
    "gunicorn gthread": GTHREAD,
    "gunicorn gevent": GEVENT,
    "waitress": WAITRESS,
    "uwsgi": UWSGI,
    "uvicorn": UVICORN,
    "daphne": DAPHNE,
    "hypercorn": HYPERCORN,
}
# What makes them listen at a Unix socket, too; there nginx asks.
OVER_UNIX = {
    "gunicorn sync": ([*SYNC, "--bind=unix:{socket}"], HTTP),
    "gunicorn gthread": ([*GTHREAD, "--bind=unix:{socket}"], HTTP),
    "gunicorn gevent": ([*GEVENT, "--bind=unix:{socket}"], HTTP),
    "uwsgi": ([*UWSGI, "--socket={socket}"], UWSGI_PROTOCOL),
    "daphne": ([*DAPHNE, "--unix-socket={socket}"], HTTP),
    "hypercorn": ([*HYPERCORN, "--bind=unix:{socket}"], HTTP),
}


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


def over_tcp(server: Server) -> str:
    return HTTP.format(upstream=f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("name", OVER_TCP)
def test_over_tcp(name: str) -> None:
    with leaving(*OVER_TCP[name]) as server, nginx(over_tcp(server)) as port:
        check_statement(server, port)


@pytest.mark.parametrize("name", OVER_UNIX)
def test_over_a_unix_socket(name: str, tmp_path: Path) -> None:
    command, location = OVER_UNIX[name]
    socket = tmp_path / "site"
    command = [part.replace("{socket}", str(socket)) for part in command]
    location = location.format(upstream=f"unix:{socket}")
    with leaving(*command) as server, nginx(location) as port:
        check_statement(server, port)


@pytest.mark.parametrize("name", ["gunicorn gthread", "uvicorn"])
def test_a_wait_for_a_connection_stops(name: str) -> None:
    with leaving(*OVER_TCP[name], max_size=1) as server, nginx(over_tcp(server)) as port:
        check_wait(server, port)


def test_with_connections_to_the_site_that_are_kept_alive() -> None:
    kept = ' proxy_http_version 1.1; proxy_set_header Connection "";'
    with leaving(*GTHREAD) as server, nginx(over_tcp(server) + kept) as port:
        check_statement(server, port)


def test_what_nginx_gives_up_stops() -> None:
    """`proxy_read_timeout`: the client is there, and gets a 504."""
    hasty = " proxy_read_timeout 1s;"
    with leaving(*GTHREAD) as server, nginx(over_tcp(server) + hasty) as port:
        with closing(ask(port, "/slow/")) as client:
            begun(server)
            assert client.recv(100).startswith(b"HTTP/1.1 504 ")
        is_stopped(server)


def test_where_nginx_is_told_to_ignore_that_clients_leave_nothing_stops() -> None:
    deaf = " proxy_ignore_client_abort on;"
    with leaving(*GTHREAD) as server, nginx(over_tcp(server) + deaf) as port:
        with closing(ask(port, "/slow/?seconds=1")):
            begun(server)
        wait_until(lambda: "GET slept well" in server.log, within=30)
