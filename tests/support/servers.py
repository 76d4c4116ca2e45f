"""Starts web servers as their users do, sends them requests, and stops them."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from django.test import override_settings

from django_pooled_pg.monitoring.client import collect
from testproject.embedded import database_url
from testproject.ports import free_port
from tests.support.processes import ROOT, environment
from tests.support.waiting import wait_until
from tests.support.web.place import RUNTIME_DIR

SETTINGS = "tests.support.web.settings"


class Answer(NamedTuple):
    """What came of a request; without an answer the status is 0, and the body says why."""

    status: int
    body: str

    @property
    def data(self) -> Any:
        assert self.status == 200, self
        return json.loads(self.body)


def site_url() -> str:
    """Return the site's database: servers can't see what tests do in transactions."""
    return database_url("testproject")


def site_environment(name: str = "", **pool: Any) -> dict[str, str]:
    """Return the environment of a server whose sessions have that name."""
    return environment(
        DJANGO_SETTINGS_MODULE=SETTINGS,
        # Not left to the site: what starts the embedded server needs Python in sys.executable.
        DATABASE_URL=site_url(),
        APPLICATION_NAME=name,
        TESTPROJECT_POOL=json.dumps({"timeout": 60, **pool}),
        # Not with warnings as errors: servers' own workers leave sockets open as they exit.
        PYTHONDEVMODE="",
        PYTHONWARNINGS="",
    )


@functools.cache
def prepare_site() -> None:
    """Make the tables of the site's database, with data, unless they are there."""
    with connect() as database:
        # Others may be about to do it, too.
        database.execute("SELECT pg_advisory_lock(4710)")
        manage("migrate", "-v0")
        if database.execute("SELECT 1 FROM library_book LIMIT 1").fetchone() is None:
            manage("loaddemo")


def manage(*arguments: str) -> str:
    """Run a management command of the site as an operator does; return its output."""
    return subprocess.run(
        [sys.executable, "-m", "testproject.manage", *arguments],
        cwd=ROOT,
        env=site_environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


class Server:
    """A web server that runs, on a port of 127.0.0.1."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.port = port
        self.process = process
        self._log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    # Requests

    def get(self, path: str) -> Answer:
        return self.get_all([path])[0]

    def get_all(self, paths: list[str]) -> list[Answer]:
        """Send these requests at once; return their answers."""

        async def gather() -> list[Answer]:
            return await asyncio.gather(*(ask(self.port, path) for path in paths))

        return asyncio.run(gather())

    def watch(self, paths: list[str]) -> tuple[list[Answer], int]:
        """As `get_all`; also return the most server sessions that were seen meanwhile."""
        with ThreadPoolExecutor(1) as executor, connect() as database:
            asking = executor.submit(self.get_all, paths)
            most = 0
            while not asking.done():
                most = max(most, self._sessions(database, "true"))
                time.sleep(0.02)
            return asking.result(), most

    # What the database and operators know of it

    def sessions(self, condition: str = "true") -> int:
        """Return how many server sessions it has, of those for which `condition` holds."""
        with connect() as database:
            return self._sessions(database, condition)

    def _sessions(self, database: psycopg.Connection[Any], condition: str) -> int:
        row = database.execute(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE application_name = '{self.name}' AND {condition}"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def pools(self) -> dict[int, dict[str, Any]]:
        """Return what `poolstats` knows of it: each process' pool by process id."""
        with override_settings(POOLED_PG_RUNTIME_DIR=RUNTIME_DIR):
            found = [report.snapshot for report in collect(timeout=10)]
        return {
            snapshot["pid"]: snapshot["pools"][0]
            for snapshot in found
            if snapshot is not None and self._is_mine(snapshot["pid"])
        }

    def _is_mine(self, pid: int) -> bool:
        try:
            return os.getpgid(pid) == self.process.pid
        except ProcessLookupError:  # it has just ended
            return False

    # Its end

    def stop(self, signal_: int = signal.SIGTERM) -> None:
        """Stop it as its operators do; it must leave no session, and not complain."""
        self.process.send_signal(signal_)
        self.has_stopped()

    def has_stopped(self) -> None:
        self.process.wait(60)
        assert "Traceback" not in self.log, self.log
        assert "Warning" not in self.log, self.log
        assert "couldn't stop thread" not in self.log, self.log  # psycopg_pool, at exit
        wait_until(lambda: self.sessions() == 0, within=30, message="server sessions are left")

    def stop_under_load(self, held: int, signal_: int, said: str) -> None:
        """Stop it while `held` requests wait in the database; `said` is what it logs then."""
        with holding_requests(self, held) as answers:
            self.process.send_signal(signal_)
            wait_until(lambda: said in self.log, within=30)
        assert [answer.status for answer in answers()] == [200] * held, (answers(), self.log)
        self.has_stopped()

    def kill(self) -> None:
        """Whatever happened: nothing of it runs after this."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def serving(
    *command: str, ready: str = "/ping", env: dict[str, str] | None = None, **pool: Any
) -> Iterator[Server]:
    """Run `command`, in which `{port}` stands for a port; `pool` has the pool's options."""
    port = free_port()
    name = f"{Path(command[0]).name}-{port}"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [part.replace("{port}", str(port)) for part in command],
                cwd=ROOT,
                env={**site_environment(name, **pool), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        server = Server(name, port, process, log)
        try:
            wait_until(
                lambda: process.poll() is not None or server.get(ready).status == 200, within=60
            )
            assert process.poll() is None, server.log
            yield server
            if process.poll() is None:
                server.stop()
        finally:
            server.kill()


@contextmanager
def holding_requests(
    server: Server, held: int, in_database: int | None = None
) -> Iterator[Callable[[], list[Answer]]]:
    """Inside, `held` requests have begun that wait for a lock of the database's.

    As many as `in_database` (default: all) have a connection. Yields what waits for their answers.
    """
    key = secrets.randbelow(1 << 31)
    with connect() as database, ThreadPoolExecutor(1) as executor:
        database.execute("SELECT pg_advisory_lock(%s)", [key])
        try:
            asking = executor.submit(server.get_all, [f"/lock/?key={key}"] * held)
            wait_until(
                lambda: server.sessions("wait_event = 'advisory'") == (in_database or held),
                within=30,
                message="the requests aren't all in the database",
            )
            yield asking.result
        finally:
            database.execute("SELECT pg_advisory_unlock_all()")


def connect() -> psycopg.Connection[Any]:
    """Connect to the site's database; a `with` of it closes it."""
    return psycopg.connect(site_url(), autocommit=True)


def program(name: str) -> str:
    """Return the path of a program that was installed beside this Python."""
    return str(Path(sys.executable).parent / name)


async def ask(port: int, path: str, within: float = 60) -> Answer:
    """Send one request and return its answer."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await open_request(port, path)
            try:
                answer = await reader.read()
            finally:
                writer.close()
    except OSError as ex:
        return Answer(0, f"{type(ex).__name__}: {ex}")
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        return Answer(0, "closed without an answer")
    return Answer(int(head.split()[1]), body.decode())


async def open_request(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request; the caller reads the answer, or goes away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    # HTTP/1.0: the answer ends where the connection does.
    writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


def most_at_once(answers: list[Answer]) -> int:
    """Return how many of the queries that `/sleep/` told of ran at the same time."""
    changes = [(answer.data["began"], 1) for answer in answers]
    changes += [(answer.data["ended"], -1) for answer in answers]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most
