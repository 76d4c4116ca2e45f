"""Measures the site in gunicorn over HTTP, its server reached in three ways; runs such sites."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .. import traffic
from ..ports import free_port
from .children import ChildError, by_turns, environment
from .contestants import CONNECT, DJANGO, EVERYBODY, Contestant, Settings, database
from .figures import Case, Figure, Outcome
from .plan import CPU, NEEDED, RATE, Bench
from .servers import SOCKET, TCP, TLS, NotHere, connections, observer

HOST = "127.0.0.1"
THREADS, SIZE = 16, 8
START_TIMEOUT = 30.0  # seconds
# Those that keep connections and use real threads, as gunicorn does.
SOME = tuple(c for c in EVERYBODY if c.kind == "django" and c is not CONNECT and not c.gevent)


def gunicorn(bench: Bench) -> Iterator[Case]:
    """a page of one query from gunicorn, under load"""
    figures = (
        RATE,
        CPU,
        Figure("p50_ms", "p50 ms", 2),
        Figure("p99_ms", "p99 ms", 2),
        Figure("errors", "errors", 0),
        NEEDED,
    )
    for way in (SOCKET, TCP, TLS):
        bench.say(f"gunicorn: {way}")
        name = f"{way}; {THREADS} threads on {SIZE} connections"
        case = Case("gunicorn", name, figures, DJANGO.key)
        try:
            address = bench.servers.address(way)
        except NotHere as ex:
            case.note = f"Not measured: {ex}"
        else:
            _measure(bench, case, address)
        yield case


def _measure(bench: Bench, case: Case, address: Settings) -> None:
    with ExitStack() as stack:
        sites = {}
        for contestant in bench.contestants(SOME):
            outcome = case.outcomes[contestant.key] = Outcome()
            try:
                sites[contestant.key] = stack.enter_context(site(Site(contestant, address)))
            except ChildError as ex:
                outcome.error = str(ex)
        observing = stack.enter_context(observer(address))

        def warm_up(key: str) -> dict[str, float]:
            sites[key].load(0.3 * bench.scale)
            return {}

        def turn(key: str) -> dict[str, float]:
            each = sites[key]
            before = each.cpu()
            result = each.load(0.7 * bench.scale)
            after = each.cpu()
            if result.errors:
                raise ChildError("; ".join(result.messages))
            figures = {
                "rate": result.rate,
                "p50_ms": result.p50 * 1000,
                "p99_ms": result.p99 * 1000,
                "errors": result.errors,
                "connections": connections(observing, each.application_name),
            }
            if before is not None and after is not None:
                figures[CPU.key] = (after - before) / max(1, result.requests) * 1e6
            return figures

        # Brings up all threads and connections.
        by_turns(case.outcomes, 1, warm_up)
        by_turns(case.outcomes, max(1, bench.few() // 2), turn)


class Site:
    """One contestant's site, in gunicorn."""

    settings = "testproject.bench.settings"

    def __init__(
        self,
        contestant: Contestant,
        address: Settings,
        *,
        workers: int = 1,
        threads: int = THREADS,
        size: int = SIZE,
        middleware: Sequence[str] = (),
    ) -> None:
        if missing := contestant.missing():
            raise ChildError(missing)
        self.application_name = f"bench-{contestant.key}"[:63]
        self.port = free_port()
        settings = database(contestant, address, size, self.application_name)
        command = [sys.executable, "-P", "-m", *self.command(workers, threads)]
        env = {
            "DJANGO_SETTINGS_MODULE": self.settings,
            "BENCH_DATABASE": json.dumps(settings),
            "BENCH_APP": contestant.app,
            "BENCH_TREE": contestant.tree,
            "BENCH_MIDDLEWARE": json.dumps(list(middleware)),
        }
        self.process = subprocess.Popen(
            command,
            env={**environment(), **env},
            cwd="/",
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def command(self, workers: int, threads: int) -> list[str]:
        """Return the server's module and its arguments."""
        return [
            "gunicorn", "testproject.wsgi:application", f"--bind={HOST}:{self.port}",
            "--worker-class=gthread", f"--workers={workers}", f"--threads={threads}",
            "--log-level=critical", "--no-control-socket",
        ]  # fmt: skip

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while (problem := self._problem()) and time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ChildError(f"the server ended with status {self.process.returncode}")
            time.sleep(0.1)
        if problem:
            raise ChildError(f"the site is not up: {problem}")

    def load(self, seconds: float) -> traffic.Result:
        page = traffic.Target(path="/health")
        return traffic.run(HOST, self.port, [page], duration=seconds, concurrency=THREADS)

    def cpu(self) -> float | None:
        """Return the seconds of CPU that the server has used; `None` if that isn't known."""
        tick = os.sysconf("SC_CLK_TCK")
        own = self.process.pid
        try:
            children = Path(f"/proc/{own}/task/{own}/children").read_text()
            seconds = 0.0
            for pid in (own, *children.split()):
                # What follows the name, which is in parentheses and may hold anything.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / tick
        except OSError:
            return None
        return seconds

    def _problem(self) -> str:
        try:
            with contextlib.closing(
                http.client.HTTPConnection(HOST, self.port, timeout=5)
            ) as connection:
                connection.request("GET", "/health")
                status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as ex:
            return str(ex)
        return "" if status == 200 else f"status {status}"


@contextlib.contextmanager
def site(started: Site) -> Iterator[Site]:
    """Yield the site once it is up; end it afterwards."""
    try:
        started.wait_until_up()
        yield started
    finally:
        started.process.terminate()
        try:
            started.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(started.process.pid, 9)
            started.process.wait()
