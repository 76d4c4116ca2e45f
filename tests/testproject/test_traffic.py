"""Tests testproject/traffic.py against a small server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from testproject import traffic
from testproject.traffic import Target

pytestmark = pytest.mark.timeout(30)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: Counter[tuple[str, str]]
    clients: set[tuple[str, int]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen[(self.path, body.decode())] += 1
        self.clients.add(self.client_address)
        if self.path == "/hangs-up":
            self.close_connection = True
            return
        self.send_response(500 if self.path == "/broken" else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = Counter()
    Handler.clients = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(server: ThreadingHTTPServer, *targets: Target, **options: object) -> traffic.Result:
    return traffic.run("127.0.0.1", server.server_port, targets, duration=0.3, **options)


def test_connections_are_kept_and_figures_add_up(server: ThreadingHTTPServer) -> None:
    result = run(server, Target(path="/"), concurrency=3, requests_per_connection=10**6)
    assert result.requests == Handler.seen.total() == len(result.latencies) > 3
    assert len(Handler.clients) == 3
    assert (result.errors, result.messages) == (0, [])
    assert 0 < result.p50 <= result.p99 <= max(result.latencies)
    assert result.rate == result.requests / result.duration
    assert result.duration >= 0.3


def test_connections_are_renewed(server: ThreadingHTTPServer) -> None:
    result = run(server, Target(path="/"), concurrency=1, requests_per_connection=2)
    assert len(Handler.clients) == (result.requests + 1) // 2


def test_weights_and_forms(server: ThreadingHTTPServer) -> None:
    run(
        server,
        Target(path="/never", weight=0),
        Target(path="/form", method="POST", form="stars=5"),
    )
    assert set(Handler.seen) == {("/form", "stars=5")}


def test_failures_are_counted_and_the_first_ones_told(server: ThreadingHTTPServer) -> None:
    result = run(server, Target(path="/broken"), Target(path="/hangs-up"), concurrency=8)
    assert result.errors == result.requests > 0
    assert len(result.messages) == traffic.MESSAGES_KEPT
    assert all("status 500" in m or "RemoteDisconnected" in m for m in result.messages)


def test_nobody_listening_is_an_error_not_a_crash() -> None:
    result = traffic.run("127.0.0.1", 1, [Target(path="/")], duration=0.1)
    assert result.errors == result.requests > 0


def test_progress_is_told(server: ThreadingHTTPServer) -> None:
    told: list[float] = []
    run(server, Target(path="/"), interval=0.05, progress=lambda done, _: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 2


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1", "0.0.0.0", ""])
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="only sent to this machine"):
        traffic.run(host, 80, [Target(path="/")], duration=1)


def test_percentile() -> None:
    assert traffic.percentile([], 0.5) == 0
    assert traffic.percentile([3, 1, 2], 0.5) == 2
    assert traffic.percentile(range(1, 101), 0.99) == 99
