"""The test project under gunicorn."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from testproject.ports import free_port
from tests.support.processes import ROOT, environment
from tests.support.waiting import wait_until

# Not the demo's: it may run at the same time.
SETTINGS = "tests.support.site_settings"


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    """The site's own database: gunicorn's workers can't see the tests' transactions."""
    subprocess.run(
        [sys.executable, "-m", "testproject.manage", "migrate", "-v0"], cwd=ROOT, check=True
    )


@contextlib.contextmanager
def gunicorn(*arguments: str, application: str = "testproject.wsgi") -> Iterator[str]:
    """Serve; yields the site's URL. Its stderr must stay without tracebacks and warnings."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", f"{application}:application"]
    command += [f"--bind=127.0.0.1:{port}", "--log-level=warning", "--no-control-socket"]
    server = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        # Not with warnings as errors: gunicorn's own workers leave sockets open as they exit.
        env=environment(DJANGO_SETTINGS_MODULE=SETTINGS, PYTHONDEVMODE="", PYTHONWARNINGS=""),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        _, err = server.communicate(timeout=30)
    assert "Traceback" not in err, err
    assert "Warning" not in err, err


def pid(url: str) -> dict[str, Any]:
    def ask() -> Any:
        try:
            with urllib.request.urlopen(f"{url}/pid", timeout=10) as response:
                return json.load(response)
        except urllib.error.URLError:
            return None  # not up yet

    answer: dict[str, Any] = wait_until(ask, within=30)
    return answer


def poolstats() -> dict[int, dict[str, Any]]:
    """Run the command as an operator does; return each process' first pool by process id."""
    out = subprocess.run(
        [sys.executable, "-m", "testproject.manage", "poolstats", "--json"],
        cwd=ROOT,
        env=environment(DJANGO_SETTINGS_MODULE=SETTINGS),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {process["pid"]: process["pools"][0] for process in json.loads(out)["processes"]}


def test_poolstats_lists_all_workers_and_their_figures_move() -> None:
    with gunicorn("--workers=3", "--threads=2") as url:
        answered = set()

        def all_answered() -> bool:
            answered.add(pid(url)["pid"])
            return len(answered) == 3

        wait_until(all_answered, within=30)
        before = poolstats()
        assert set(before) == answered
        for _ in range(30):
            pid(url)
        after = poolstats()
        assert set(after) == answered
        moved = sum(after[p]["borrows"] - before[p]["borrows"] for p in answered)
        assert moved == 30
        assert all(pool["in_use"] == 0 for pool in after.values())
        assert sum(pool["connects"] for pool in after.values()) <= 6
    assert poolstats() == {}


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_preload_with_queries_at_import(worker: str) -> None:
    application = "tests.support.preloading"
    with gunicorn("--preload", "--workers=2", f"-k{worker}", application=application) as url:
        sessions: dict[int, set[int]] = {}

        def both_answered() -> bool:
            answer = pid(url)
            sessions.setdefault(answer["pid"], set()).add(answer["pg_backend_pid"])
            return len(sessions) == 2

        wait_until(both_answered, within=30)
        first, second = sessions.values()
        assert not first & second, "workers share a server session"
