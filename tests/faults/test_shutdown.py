"""SIGTERM under load: what had begun is answered, nothing is left over, and nothing is logged."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from testproject.embedded import Cluster
from testproject.ports import free_port
from tests.support.processes import ROOT, environment
from tests.support.waiting import wait_until

HELD = 6  # requests that are in the middle of their work when the signal comes
MS = 1500  # that long is their work
# The session of such a request: its first question was answered, its connection is held.
IN_THE_MIDDLE = "state = 'idle' AND query LIKE '%library_author%'"
# Beyond the work itself. Where a pool is left open, its threads take 5 s each.
AT_ONCE = 12.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server of one's own: each session of the site's that it has is one of these tests'."""
    with Cluster() as cluster:
        cluster.create_database("testproject")
        subprocess.run(
            [sys.executable, "-m", "testproject.manage", "migrate", "-v0"],
            cwd=ROOT,
            env=site_environment(cluster),
            check=True,
        )
        yield cluster


def site_environment(cluster: Cluster) -> dict[str, str]:
    return environment(
        DJANGO_SETTINGS_MODULE="testproject.settings",
        DATABASE_URL=cluster.url_of("testproject"),
        # Shown, so that they can be asked for; raised, they would end gunicorn's own threads.
        PYTHONDEVMODE="",
        PYTHONWARNINGS="default",
    )


class Server:
    """gunicorn with two workers of ten threads."""

    def __init__(self, cluster: Cluster, *arguments: str) -> None:
        self.port = free_port()
        self.err = ""
        command = [sys.executable, "-m", "gunicorn", "testproject.wsgi:application"]
        command += [f"--bind=127.0.0.1:{self.port}", "--workers=2", "--threads=10", "-kgthread"]
        command += ["--log-level=warning", "--no-control-socket", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=site_environment(cluster), stderr=subprocess.PIPE, text=True
        )

    def get(self, path: str) -> bytes | None:
        """Return the body of the answer; `None` if there is no answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as client:
            try:
                client.request("GET", path)
                return client.getresponse().read()
            except OSError:
                return None

    def answers(self) -> bool:
        return self.get("/health") == b"ok\n"

    def workers(self) -> set[int]:
        """Return the process ids of both workers."""
        seen: set[int] = set()

        def both_answered() -> bool:
            seen.add(json.loads(self.get("/pid") or b"")["pid"])
            return len(seen) == 2

        wait_until(both_answered, within=30)
        return seen

    def terminate(self) -> float:
        """Send SIGTERM and wait for the end; return how long it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, self.err = self.process.communicate(timeout=30)
        return time.monotonic() - started


@contextmanager
def serving(cluster: Cluster, *arguments: str) -> Iterator[Server]:
    server = Server(cluster, *arguments)
    try:
        wait_until(server.answers, within=30)
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


class Load:
    """Threads that send requests, each on a connection of its own, until the server is gone."""

    def __init__(self, port: int, path: str, threads: int, *, endless: bool) -> None:
        self.answered = 0
        # What came of requests that the server had taken and didn't answer well.
        self.bad: list[str] = []
        self._port, self._path, self._endless = port, path, endless
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self) -> None:
        while self._send() and self._endless:
            pass

    def _send(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)) as client:
            try:
                client.request("GET", self._path, headers={"Connection": "close"})
                response = client.getresponse()
            except OSError as ex:
                # Not begun: nobody accepted it. Those that must not meet this are held ones.
                if not self._endless:
                    self._note(f"{type(ex).__name__}: {ex}")
                return False
            try:
                body = response.read()
            except (OSError, http.client.HTTPException) as ex:
                self._note(f"incomplete: {type(ex).__name__}: {ex}")
                return False
            self._note("" if response.status == 200 else f"{response.status}: {body!r}")
            return True

    def _note(self, problem: str) -> None:
        with self._lock:
            if problem:
                self.bad.append(problem)
            else:
                self.answered += 1


def sessions(cluster: Cluster, condition: str = "true") -> int:
    with closing(psycopg.connect(cluster.dsn, autocommit=True)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE application_name = 'testproject' AND {condition}"
        ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("arguments", [[], ["--preload"]], ids=["plain", "preload"])
def test_sigterm_under_load(cluster: Cluster, arguments: list[str]) -> None:
    with serving(cluster, *arguments) as server:
        quick = Load(server.port, "/health", 4, endless=True)
        slow = Load(server.port, f"/slow/?ms={MS}", HELD, endless=False)
        wait_until(lambda: sessions(cluster, IN_THE_MIDDLE) == HELD, within=10)
        wait_until(lambda: quick.answered > 20)
        took = server.terminate()
        slow.join()
        quick.join()
    assert (slow.answered, slow.bad) == (HELD, [])
    assert quick.bad == []
    assert took < MS / 1000 + AT_ONCE
    assert server.err == ""
    assert server.process.returncode == 0
    wait_until(lambda: sessions(cluster) == 0, message="server sessions were left")


def test_sigterm_with_nothing_to_do(cluster: Cluster) -> None:
    with serving(cluster) as server:
        assert sessions(cluster) > 0
        took = server.terminate()
    assert took < AT_ONCE
    assert server.err == ""
    assert server.process.returncode == 0
    wait_until(lambda: sessions(cluster) == 0, message="server sessions were left")


def test_a_worker_that_is_told_to_end_finishes_its_requests(cluster: Cluster) -> None:
    """As deployments and memory limits do it: one worker goes, the site stays."""
    with serving(cluster) as server:
        workers = server.workers()
        slow = Load(server.port, f"/slow/?ms={MS}", HELD, endless=False)
        wait_until(lambda: sessions(cluster, IN_THE_MIDDLE) == HELD, within=10)
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
        slow.join()
        wait_until(server.answers, within=30)
        server.terminate()
    assert (slow.answered, slow.bad) == (HELD, [])
    assert "Traceback" not in server.err, server.err
    wait_until(lambda: sessions(cluster) == 0, message="server sessions were left")
