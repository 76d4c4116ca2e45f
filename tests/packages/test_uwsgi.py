"""Sites under uWSGI, which forks its workers without Python's knowledge."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers import Server, prepare_site, program, serving
from tests.support.waiting import wait_until

UWSGI = program("uwsgi")
if not Path(UWSGI).exists():
    pytest.skip("uwsgi isn't installed: make test-packages", allow_module_level=True)

PRELOADING = "tests.support.preloading"
# The application, and uWSGI's options: all query when they are imported.
WAYS = {
    "forked": (PRELOADING, []),
    "forked, and the hook taken": ("tests.support.web.hook_taken", []),
    "forked with Python's hooks": (PRELOADING, ["--py-call-uwsgi-fork-hooks"]),
    "lazy-apps": (PRELOADING, ["--lazy-apps"]),
}


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


@contextmanager
def uwsgi(application: str, *options: str) -> Iterator[Server]:
    command = [UWSGI, "--http-socket=127.0.0.1:{port}", "--master", "--need-app"]
    command += ["--processes=2", "--threads=2", "--enable-threads"]
    # As its documentation says: by itself SIGTERM makes uWSGI reload.
    command += ["--hook-master-start=unix_signal:15 gracefully_kill_them_all"]
    command += [f"--module={application}:application", f"--virtualenv={Path(UWSGI).parents[1]}"]
    # What it starts again in a reload, if it is pyuwsgi; that of a virtual environment it wouldn't.
    if Path(UWSGI).read_bytes().startswith(b"#!"):
        command += [f"--binary-path={sys.executable}"]
    with serving(*command, *options, max_size=2, prewarm=True) as server:
        yield server


def sessions_of_workers(server: Server) -> dict[int, set[int]]:
    """Ask until both workers have answered; return which sessions they used, by process id."""
    sessions: dict[int, set[int]] = {}

    def both_answered() -> bool:
        for answer in server.get_all(["/pid"] * 4):
            if answer.status:  # while it reloads it hangs up on some
                data = answer.data
                sessions.setdefault(data["pid"], set()).add(data["pg_backend_pid"])
        return len(sessions) >= 2

    wait_until(both_answered, within=30)
    return sessions


@pytest.mark.parametrize("way", WAYS)
def test_workers_share_no_session(way: str) -> None:
    application, options = WAYS[way]
    # The parent has a pool of its own, if it has loaded the application.
    processes = 2 if way == "lazy-apps" else 3
    with uwsgi(application, *options) as server:
        if way != "forked, and the hook taken":
            # Workers know that they were forked: they prewarm, before any request asks.
            wait_until(lambda: len(server.pools()) == processes, within=30)
        sessions = sessions_of_workers(server)
        first, second = sessions.values()
        assert not first & second, "workers share a server session"
        answers = server.get_all(["/sleep/?ms=20"] * 40)
        assert [answer.status for answer in answers] == [200] * 40

        pools = server.pools()
        assert set(sessions) <= set(pools)
        assert len(pools) == processes
        assert sum(pool["size"] for pool in pools.values()) == server.sessions()
        if way != "lazy-apps":
            parent = pools[server.process.pid]
            assert (parent["size"], parent["connects"]) == (1, 1)


@pytest.mark.parametrize("way", ["forked", "lazy-apps"])
def test_a_reload_leaves_no_session_and_a_graceful_stop_no_request(way: str) -> None:
    application, options = WAYS[way]
    with uwsgi(application, *options) as server:
        before = sessions_of_workers(server)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not set(sessions_of_workers(server)) & set(before), within=60)
        old = ",".join(str(pid) for pids in before.values() for pid in pids)
        wait_until(lambda: server.sessions(f"pid IN ({old})") == 0, within=30)
        pools = server.pools()
        assert sum(pool["size"] for pool in pools.values()) == server.sessions()

        server.stop_under_load(4, signal.SIGTERM, said="graceful shutdown triggered")
