from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from django_pooled_pg.monitoring.dashboard import servers as module
from django_pooled_pg.monitoring.dashboard.servers import Servers
from django_pooled_pg.monitoring.server import AT_ONCE, ServerSide
from tests.support.waiting import wait_until


class Server:
    """A server that answers when it is let, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = threading.Lock()
        self.answering = threading.Event()
        self.answering.set()

    def side(self, alias: str) -> ServerSide:
        with self._lock:
            self.asked += 1
            number = self.asked
        assert self.answering.wait(10)
        return ServerSide(alias=alias, total=number)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(module, "server_side", server.side)
    yield server
    server.answering.set()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    return clock


def total(servers: Servers) -> int | None:
    side = servers.sides(["default"]).get("default")
    return side.total if side is not None else None


def test_asked_every_ten_seconds_at_most(server: Server, now: list[float]) -> None:
    servers = Servers()
    assert [total(servers) for _ in range(5)] == [1] * 5
    now[0] += 9.9
    assert total(servers) == 1
    now[0] += 0.1
    assert total(servers) == 2
    assert server.asked == 2


def test_each_server_for_itself(server: Server) -> None:
    servers = Servers()
    assert [servers.sides([alias])[alias] for alias in ("a", "b")] == [
        ServerSide(alias="a", total=1),
        ServerSide(alias="b", total=2),
    ]
    assert list(servers.sides(["b", "a"])) == ["b", "a"]
    assert server.asked == 2


def test_one_patience_for_all_servers_and_few_threads(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    servers = Servers()
    server.answering.clear()
    aliases = [f"alias-{number}" for number in range(60)]
    before = set(threading.enumerate())
    started = monotonic()
    assert servers.sides(aliases) == {}
    assert monotonic() - started < 3, "12 s if one after the other"
    assert len(set(threading.enumerate()) - before) == server.asked == AT_ONCE
    server.answering.set()
    assert list(wait_until(lambda: len(said := servers.sides(aliases)) == 60 and said)) == aliases
    assert server.asked == 60


def test_a_server_that_hangs_does_not_hide_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    servers = Servers()
    server.answering.clear()
    servers.sides(["hanging"])
    monkeypatch.setattr(module, "server_side", lambda alias: ServerSide(alias=alias))
    assert list(servers.sides(["good", "hanging"])) == ["good"]


def test_a_slow_server_is_not_waited_for(
    server: Server, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    servers = Servers()
    server.answering.clear()
    assert total(servers) is None
    now[0] += 60
    assert total(servers) is None
    assert server.asked == 1  # still the first time
    server.answering.set()
    wait_until(lambda: not servers._asking)
    server.answering.clear()
    # It is asked anew; meanwhile what it said before is shown.
    assert total(servers) == 1
    assert server.asked == 2


def test_many_at_once_ask_once(server: Server) -> None:
    servers = Servers()
    threads = [threading.Thread(target=servers.sides, args=[["default"]]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == 1


def test_a_child_starts_anew() -> None:
    module.servers._said["default"] = ServerSide(alias="default")
    with module.servers._answered:
        child = os.fork()
        if not child:
            free = module.servers._answered.acquire(blocking=False)
            os._exit(7 if (free, module.servers._said) == (True, {}) else 1)
    _, status = os.waitpid(child, 0)
    del module.servers._said["default"]
    assert os.waitstatus_to_exitcode(status) == 7
