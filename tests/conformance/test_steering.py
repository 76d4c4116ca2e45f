"""What an operator does around a restart of the server, with a site under load."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from testproject import traffic
from testproject.embedded import Cluster
from tests.conformance.test_gunicorn import SETTINGS, gunicorn, pid
from tests.monitoring.members import short_folder
from tests.support.processes import ROOT, environment
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


def manage(*args: str) -> str:
    """Run a command as an operator does; it must succeed and say nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "testproject.manage", *args],
        cwd=ROOT,
        env=environment(DJANGO_SETTINGS_MODULE=SETTINGS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done.stdout


class Load:
    """Requests to the site, until it is stopped."""

    def __init__(self, url: str) -> None:
        self.requests = 0
        self.errors: list[str] = []
        self.stopping = threading.Event()
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)

    def run(self) -> None:
        while not self.stopping.is_set():
            # Each ends with the last of its requests: during a pause it goes on until resume.
            done = traffic.run(*self._address, [traffic.Target(path="/pid")], duration=0.3)
            self.requests += done.requests
            self.errors += done.messages


def started_at(server: Cluster) -> Any:
    with psycopg.connect(server.dsn) as connection:
        return connection.execute("SELECT pg_postmaster_start_time()").fetchone()


def test_a_restart_during_a_pause_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster() as server, short_folder() as folder:
        monkeypatch.setenv("DATABASE_URL", server.url)
        monkeypatch.setenv("TMPDIR", str(folder))  # no other site is in its runtime folder
        monkeypatch.setenv("TESTPROJECT_POOL", '{"timeout": 30}')
        before = started_at(server)
        serving = gunicorn("--workers=2", "--threads=4", "--graceful-timeout=1")
        with serving as url, ThreadPoolExecutor(1) as executor:
            workers: set[int] = set()
            wait_until(lambda: workers.add(pid(url)["pid"]) or len(workers) == 2, within=30)  # type: ignore[func-returns-value]
            load = Load(url)
            loading = executor.submit(load.run)
            try:
                wait_until(lambda: load.requests, within=10)
                paused = manage("poolctl", "pause", "default")
                try:
                    # "smart": the server waits until the last connection in use was given back.
                    server.restart("smart")
                    assert started_at(server) != before
                    served = load.requests
                finally:
                    resumed = manage("poolctl", "resume", "default")
                wait_until(lambda: load.requests > served, within=10)
            finally:
                load.stopping.set()
                loading.result(30)
    assert load.errors == []
    said = re.findall(r"^(\d+) gunicorn  default: paused: closed ", paused, re.MULTILINE)
    assert set(map(int, said)) == workers
    said = re.findall(r"default: resumed: (\d+) borrowers were waiting$", resumed, re.MULTILINE)
    assert len(said) == 2
    assert sum(map(int, said)) > 0
