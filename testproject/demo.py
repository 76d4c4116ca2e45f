"""`python -m testproject.demo`: runs the site under gunicorn, with traffic, from start to stop.

Leaves nothing running, however it ends. `traffic.py` makes the load.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import psycopg

from testproject import traffic
from testproject.cluster import ROOT
from testproject.embedded import shared_cluster
from testproject.ports import free_port

HOST = "127.0.0.1"
START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 15.0
APPLICATION_NAME = "testproject-demo"
MANAGE = [sys.executable, "-m", "testproject.manage"]


class DemoError(Exception):
    """The demo can't go on; the message says why."""


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    # For all subprocesses, too: poolstats only finds processes with the same settings module.
    os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return run(options)
    except DemoError as ex:
        print(f"The demo failed: {ex}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testproject.demo")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long traffic runs")
    parser.add_argument("--workers", type=int, default=2, help="gunicorn's processes")
    parser.add_argument("--threads", type=int, default=8, help="threads of each process")
    parser.add_argument("--clients", type=int, help="default: one for each thread")
    parser.add_argument("--port", type=int, help="the site's port; default: a free one")
    parser.add_argument("--serve", action="store_true", help="no traffic; serve until Ctrl-C")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    if "DATABASE_URL" not in os.environ:
        say("Starting PostgreSQL ...")
        # Child processes, and poolstats in another terminal, find the server by themselves.
        cluster = shared_cluster()
        cluster.create_database("testproject")
        url = cluster.url_of("testproject")
    else:
        url = os.environ["DATABASE_URL"]
    say("Migrating and loading data ...")
    manage("migrate", "--verbosity=0")
    manage("loaddemo")
    port = options.port or free_port()
    say(f"Starting gunicorn with {options.workers} workers of {options.threads} threads ...")
    with gunicorn(options, port) as server:
        wait_until_up(server, port, options.workers)
        say(f"The site is at http://{HOST}:{port}/")
        if options.serve:
            with contextlib.suppress(KeyboardInterrupt):
                python = os.path.relpath(sys.executable)
                say(
                    f"See its pools from another terminal: {python} -m testproject.manage poolstats"
                )
                say("Stop it with Ctrl-C.")
                raise DemoError(f"gunicorn ended with status {server.wait()}.")
            return 0
        with psycopg.connect(url, autocommit=True, application_name=APPLICATION_NAME) as observer:
            show = Show(observer)
            result = traffic.run(
                HOST,
                port,
                targets(observer),
                duration=options.seconds,
                concurrency=options.clients or options.workers * options.threads,
                progress=show.progress,
            )
        if server.poll() is not None:
            raise DemoError(f"gunicorn ended with status {server.returncode}.")
    show.summary(result)
    return 0 if result.requests and not result.errors and show.poolstats_worked else 1


def targets(observer: psycopg.Connection[tuple[object, ...]]) -> list[traffic.Target]:
    books = [pk for (pk,) in observer.execute("SELECT id FROM library_book LIMIT 50")]
    authors = [pk for (pk,) in observer.execute("SELECT id FROM library_author LIMIT 20")]
    review = "stars=4&text=Sent+by+the+demo."
    make = traffic.Target
    return [
        make(path="/", weight=4),
        make(path="/search/?q=garden", weight=2),
        make(path="/async/", weight=1),
        make(path="/slow/?ms=50", weight=2),
        make(path="/stream/", weight=0.5),
        make(path="/pid", weight=1),
        *(make(path=f"/books/{pk}/", weight=6 / len(books)) for pk in books),
        *(make(path=f"/authors/{pk}/", weight=2 / len(authors)) for pk in authors),
        *(
            make(path=f"/books/{pk}/review/", method="POST", form=review, weight=1 / len(books))
            for pk in books
        ),
    ]


class Show:
    """What is shown while traffic runs, and afterwards."""

    def __init__(self, observer: psycopg.Connection[tuple[object, ...]]) -> None:
        self._observer = observer
        self._on_terminal = sys.stdout.isatty()
        self._tenths_said = 0
        self.poolstats_worked: bool | None = None
        self.connections = 0

    def progress(self, fraction: float, result: traffic.Result) -> None:
        self._sample()
        if fraction >= 0.5 and self.poolstats_worked is None:
            self._clear()
            self._poolstats()
        figures = f"{result.requests} requests, {result.errors} errors"
        if self._on_terminal:
            done = round(30 * fraction)
            bar = "#" * done + "." * (30 - done)
            print(f"\r[{bar}] {fraction:4.0%}  {figures}", end="", flush=True)
            if fraction >= 1:
                print()
        elif (tenths := int(fraction * 10)) >= self._tenths_said + 2:
            self._tenths_said = tenths
            say(f"{fraction:4.0%}  {figures}")

    def summary(self, result: traffic.Result) -> None:
        connections = f"{self.connections} of {self.connections_possible} possible"
        say("")
        say(f"Requests/s:              {result.rate:.0f}")
        say(f"Latency p50 / p99:       {result.p50 * 1000:.1f} / {result.p99 * 1000:.1f} ms")
        say(f"Connections on server:   {connections} (the most at one time)")
        say(f"Requests:                {result.requests}")
        say(f"Errors:                  {result.errors}")
        for message in result.messages:
            say(f"  {message}")

    def _sample(self) -> None:
        row = self._observer.execute(
            "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND application_name <> %s",
            [APPLICATION_NAME],
        ).fetchone()
        assert row is not None
        count, self.connections_possible = row
        assert isinstance(count, int)
        self.connections = max(self.connections, count)

    def _poolstats(self) -> None:
        say("\n$ python -m testproject.manage poolstats")
        done = subprocess.run([*MANAGE, "poolstats"], cwd=ROOT, check=False)
        self.poolstats_worked = done.returncode == 0
        say("")

    def _clear(self) -> None:
        if self._on_terminal:
            print("\r\x1b[K", end="")


@contextlib.contextmanager
def gunicorn(options: argparse.Namespace, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the site; at the end, whatever the reason, stop it and wait until it is gone."""
    command = [sys.executable, "-m", "gunicorn", "testproject.wsgi:application"]
    command += [f"--bind={HOST}:{port}", "--worker-class=gthread", "--log-level=warning"]
    command += [f"--workers={options.workers}", f"--threads={options.threads}"]
    command += ["--no-control-socket"]
    # In its own session: Ctrl-C goes only to this process, which then stops gunicorn in order.
    server = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        yield server
    finally:
        # Impatience must not leave processes behind; the wait has a limit.
        with ignored_interrupts():
            server.terminate()
            try:
                server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
                print("gunicorn did not stop and was killed.", file=sys.stderr)


@contextlib.contextmanager
def ignored_interrupts() -> Iterator[None]:
    before = {
        number: signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until_up(server: subprocess.Popen[bytes], port: int, workers: int) -> None:
    """Wait until the site is healthy and each of its workers has answered."""
    deadline = time.monotonic() + START_TIMEOUT
    problem = "no answer"
    pids: set[int] = set()
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"gunicorn ended with status {server.returncode}.")
        try:
            ask(port, "/health")
            # Several at once: idle workers don't take turns.
            with ThreadPoolExecutor(2 * workers) as executor:
                answers = executor.map(lambda _: ask(port, "/pid"), range(2 * workers))
                pids.update(json.loads(answer)["pid"] for answer in answers)
            if len(pids) >= workers:
                return
            problem = f"{len(pids)} of {workers} workers answer"
        except (OSError, http.client.HTTPException) as ex:
            problem = str(ex)
        time.sleep(0.1)
    raise DemoError(f"the site is not up: {problem}.")


def ask(port: int, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise http.client.HTTPException(f"{path} answers with status {response.status}")
        return response.read()


def manage(*args: str) -> None:
    done = subprocess.run([*MANAGE, *args], cwd=ROOT, check=False)
    if done.returncode:
        raise DemoError(f"manage.py {args[0]} ended with status {done.returncode}.")


def say(text: str) -> None:
    # Flushed, so that subprocesses' output comes in order.
    print(text, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
