"""A project whose tasks are run by the workers of task queues, on a database of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_pooled_pg.pooling import registry
from testproject.ports import free_port
from tests.support.processes import ROOT, environment
from tests.support.waiting import wait_until

PROJECT = "tests.packages.taskproject"
# Seconds; generous, for machines that have other work.
WITHIN = 30

_numbers = itertools.count()

_SENDER = """
import json, sys, django
django.setup()
{script}
for line in sys.stdin:
    name, args, count = json.loads(line)
    sent = [send(name, args) for _ in range(count)]
    print(json.dumps([outcome(each) for each in sent]), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker's main process, its files, and the name of its server sessions."""

    process: subprocess.Popen[bytes]
    folder: Path
    database: str
    unblock: Callable[[], Any]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log() or self.process.poll() is not None, WITHIN)
        assert self.process.poll() is None, "it has ended"

    def stop(self) -> None:
        """Ask it to shut down; it has to do so well, and leave no session behind."""
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(WITHIN) == 0
        self.wait_for_sessions(set())

    def sessions(self, query: str = "") -> set[int]:
        """Return the server sessions it and its children have now, or those at `query`."""
        with self.unblock(), connection.cursor() as cursor:
            sql = "SELECT pid FROM pg_stat_activity WHERE (datname, application_name) = (%s, %s)"
            names = [self.database, self.folder.name]
            cursor.execute(f"{sql} AND query LIKE %s", [*names, f"%{query}%"])
            return {pid for (pid,) in cursor.fetchall()}

    def wait_for_sessions(self, sessions: set[int]) -> None:
        """Wait until it has these, and no others."""
        wait_until(lambda: self.sessions() == sessions, WITHIN, f"sessions aren't {sessions}")


@dataclass(frozen=True, kw_only=True)
class Project:
    """The project at `tests/packages/taskproject`."""

    folder: Path
    database: dict[str, Any]
    apps: tuple[str, ...]
    unblock: Callable[[], Any]

    def environment(
        self, folder: Path, pool: dict[str, Any] | None = None, **changes: str
    ) -> dict[str, str]:
        database = registry.snapshot(self.database)
        database["OPTIONS"]["application_name"] = folder.name
        if pool is not None:
            database["OPTIONS"]["pool"] = pool
        return environment(
            DJANGO_SETTINGS_MODULE=f"{PROJECT}.settings",
            TASKS_DATABASE=json.dumps(database),
            TASKS_FOLDER=str(folder),
            TASKS_APPS=" ".join(self.apps),
            # Not with warnings as errors: they are other people's programs.
            PYTHONDEVMODE="",
            PYTHONWARNINGS="",
            **changes,
        )

    @contextlib.contextmanager
    def worker(
        self, *command: str, pool: dict[str, Any] | None = None, **changes: str
    ) -> Iterator[Worker]:
        """Run `python -m command`, and stop it when the block ends."""
        folder = self.folder / f"tasks-{next(_numbers)}"
        folder.mkdir()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self.environment(folder, pool, **changes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(
            process=process, folder=folder, database=self.database["NAME"], unblock=self.unblock
        )
        try:
            yield worker
            worker.stop()
        finally:
            print(worker.log())  # pytest shows it where something failed
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children, too, should there be any
            process.wait()

    @contextlib.contextmanager
    def sender(self, script: str, folder: Path) -> Iterator[Callable[..., list[Any]]]:
        """Run what sends tasks, in a process of its own: queues take Django's settings once.

        The script defines `send(name, args)`, which returns what `outcome()` waits for. Yields a
        function that sends one task some times at once, and returns what comes of them.
        """
        with subprocess.Popen(
            [sys.executable, "-c", _SENDER.format(script=script)],
            cwd=ROOT,
            env=self.environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            assert process.stdout
            to, of = process.stdin, process.stdout

            def results(name: str, *args: Any, count: int = 1) -> list[Any]:
                print(json.dumps([name, args, count]), file=to, flush=True)
                answers: list[Any] = json.loads(of.readline())
                return answers

            yield results

    def manage(self, *command: str, **changes: str) -> str:
        """Run a management command, which must succeed; return its output."""
        result = subprocess.run(
            [sys.executable, "-m", f"{PROJECT}.manage", *command],
            cwd=ROOT,
            env=self.environment(self.folder, **changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def pools(self) -> dict[int, dict[str, Any]]:
        """Run `poolstats`; return the pool of each process."""
        processes = json.loads(self.manage("poolstats", "--json"))["processes"]
        return {process["pid"]: process["pools"][0] for process in processes}


@contextlib.contextmanager
def project(name: str, folder: Path, blocker: Any, *apps: str) -> Iterator[Project]:
    """Make the project's database; drop it, which fails where a session is left."""
    settings = registry.snapshot(connection.settings_dict)
    database = {k: settings[k] for k in ("ENGINE", "HOST", "PORT", "USER", "PASSWORD")}
    database["NAME"] = f"{settings['NAME']}_{name}"
    # Else the server works on for clients that are gone, until it has something to tell them.
    database["OPTIONS"] = {"options": "-c client_connection_check_interval=500ms"}

    def run(sql: str) -> None:
        with blocker.unblock(), connection._nodb_cursor() as cursor:
            cursor.execute(f'{sql} "{database["NAME"]}"')

    run("DROP DATABASE IF EXISTS")
    run("CREATE DATABASE")
    try:
        yield Project(folder=folder, database=database, apps=apps, unblock=blocker.unblock)
    finally:
        run("DROP DATABASE")


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis server on loopback, which keeps nothing; yields its URL."""
    if (program := shutil.which("redis-server")) is None:
        pytest.skip("redis-server isn't installed: make test-packages")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    log_file = folder / "redis.log"
    with log_file.open("wb") as log:
        server = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=log)
    try:
        wait_until(lambda: "Ready to accept connections" in log_file.read_text(), WITHIN)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(WITHIN)
