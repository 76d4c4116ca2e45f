"""Clients that leave a server while it works for them, and what should follow."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, connect, serving
from tests.support.waiting import wait_until

SETTINGS = "tests.support.web.leaving"
# What a statement of the views looks like to the server.
SLEEPS = "state = 'active' AND query LIKE '%pg_sleep(%'"
LOCKED = "wait_event = 'advisory'"
GONE = "its client left after"

# Seconds; the promise is about one, of a machine that has nothing else to do.
SOON = 4

Address = int | str


@contextmanager
def leaving(*command: str, env: dict[str, str] | None = None, **pool: Any) -> Iterator[Server]:
    """Run a server with the middleware, if it is installed."""
    here = find_spec(command[2]) if command[1] == "-m" else shutil.which(command[0])
    workers = [part[2:].split(".")[0] for part in command if part.startswith("-k")]
    needed = [name for name in workers if name in ("gevent", "uvicorn_worker")]
    if not here or not all(map(find_spec, needed)):
        pytest.skip(f"{Path(command[0]).name} or what it needs isn't installed: make test-packages")
    environment = {"DJANGO_SETTINGS_MODULE": SETTINGS, **(env or {})}
    with serving(*command, env=environment, **{"max_size": 4, **pool}) as server:
        yield server


def ask(address: Address, path: str, method: str = "GET") -> socket.socket:
    """Send a request to a port or a Unix socket; the caller leaves, by closing what it gets."""
    if isinstance(address, int):
        client = socket.create_connection(("127.0.0.1", address))
    else:
        client = socket.socket(socket.AF_UNIX)
        client.connect(address)
    client.settimeout(30)
    client.sendall(request(path, method))
    return client


def request(path: str, method: str = "GET") -> bytes:
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode()


def begun(server: Server, condition: str = SLEEPS, count: int = 1) -> None:
    """Wait until a statement runs for a client."""
    wait_until(
        lambda: server.sessions(condition) == count,
        within=30,
        message=f"{server.sessions(condition)} statements run; {server.log}",
    )


def waits(server: Server) -> None:
    """Wait until a request waits for a connection."""
    wait_until(
        lambda: sum(pool["waiting"] for pool in server.pools().values()) == 1,
        within=30,
        message="no request waits",
    )


def is_stopped(server: Server, condition: str = SLEEPS, lines: int = 1) -> None:
    """Its statement is soon gone, its connection idle, and the log has one line."""
    began = time.monotonic()
    wait_until(lambda: server.sessions(condition) == 0, SOON, "its statement goes on")
    is_idle(server)
    print(f"idle after {time.monotonic() - began:.2f} s")
    wait_until(lambda: server.log.count(GONE) >= lines, SOON, server.log)
    assert server.log.count(GONE) == lines, server.log
    assert "Traceback" not in server.log, server.log


def is_idle(server: Server) -> None:
    def all_idle() -> bool:
        pools = server.pools().values()
        return bool(pools) and not any(pool["in_use"] or pool["waiting"] for pool in pools)

    wait_until(all_idle, SOON, f"{server.pools()}")
    # And good for the next.
    assert server.sessions("state <> 'idle'") == 0


def check_statement(server: Server, address: Address, path: str = "/slow/") -> None:
    """A client leaves while its statement runs."""
    with closing(ask(address, path)):
        begun(server)
    is_stopped(server)
    assert server.get("/pid").status == 200
    assert sum(pool["dead"] for pool in server.pools().values()) == 0


def check_wait(server: Server, address: Address, path: str = "/slow/", lines: int = 1) -> None:
    """A client leaves while it waits for a connection of a pool that is exhausted; of one."""
    assert server.get("/hold/").status == 200
    with closing(ask(address, path)):
        waits(server)
    wait_until(lambda: all(p["waiting"] == 0 for p in server.pools().values()), SOON, server.log)
    assert server.get("/free/").status == 200
    is_stopped(server, lines=lines)
    assert sum(pool["exhausted"] for pool in server.pools().values()) == 0


def check_second_request_is_no_hang_up(server: Server, address: Address) -> None:
    """A client sends its next request before the answer to the first has come."""
    with closing(ask(address, "/slow/?seconds=1")) as client:
        client.sendall(request("/ping"))
        begun(server)
        answers = b""
        # Some close the connection after the first; uWSGI with the second unread: a reset.
        with suppress(ConnectionResetError):
            while b"pong" not in answers and (more := client.recv(1000)):
                answers += more
    assert answers.partition(b"\r\n")[0].split()[1] == b"200", server.log
    assert "GET slept well" in server.log
    assert GONE not in server.log


def check_change_is_finished(server: Server, address: Address) -> None:
    """Clients that have asked for a change leave, as well as one that hasn't."""
    key = server.port
    with connect() as database:
        database.execute("SELECT pg_advisory_lock(%s)", [key])
        with closing(ask(address, f"/lock/?key={key}", "POST")), closing(ask(address, "/slow/")):
            begun(server, LOCKED)
            begun(server)
        wait_until(lambda: server.sessions(SLEEPS) == 0, SOON, "its statement goes on")
        wait_until(lambda: GONE in server.log, SOON, server.log)
        assert server.sessions(LOCKED) == 1
        database.execute("SELECT pg_advisory_unlock_all()")
    wait_until(lambda: "POST had the lock" in server.log, 30, server.log)
    assert server.log.count(GONE) == 1
