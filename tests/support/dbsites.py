"""Sites at `tests/packages/dbsites`: each a project of its own, on a database of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

from django_pooled_pg.pooling import registry
from testproject.ports import free_port
from tests.support.processes import ROOT, environment
from tests.support.queries import connect
from tests.support.waiting import wait_until

WITHIN = 60  # seconds; for machines that are busy


@contextlib.contextmanager
def new_database(name: str, like: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Make a database where the tests' own is, or `like` is; yields its settings.

    It is dropped at the end, when no session is left in it.
    """
    database = {**registry.snapshot(like or connection.settings_dict), "OPTIONS": {}}
    of_all = database["NAME"]
    database["NAME"] = f"{of_all}_{name}"
    here = sql.Identifier(database["NAME"])
    with connect(database, dbname=of_all) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(here))
        server.execute(sql.SQL("CREATE DATABASE {}").format(here))
        yield database
        wait_until(lambda: not sessions(server, database["NAME"]), within=WITHIN)
        server.execute(sql.SQL("DROP DATABASE {}").format(here))


def sessions(server: psycopg.Connection[Any], name: str) -> list[Any]:
    """Return the sessions in that database, of others than `server`."""
    asked = "SELECT pid, application_name, query FROM pg_stat_activity WHERE datname = %s"
    return server.execute(f"{asked} AND pid <> pg_backend_pid()", [name]).fetchall()


@dataclass(kw_only=True)
class Site:
    """The project `name`. `wanted` goes to its settings, where `WANTED` has it."""

    name: str
    database: dict[str, Any]
    wanted: dict[str, Any] = field(default_factory=dict)
    # Where it has modules of its own.
    path: Path = ROOT

    def environment(self, pool: Any = None) -> dict[str, str]:
        options = {**self.database["OPTIONS"], **({} if pool is None else {"pool": pool})}
        wanted = {**self.wanted, "database": {**self.database, "OPTIONS": options}}
        return environment(
            DBSITE=json.dumps(wanted),
            DJANGO_SETTINGS_MODULE=f"tests.packages.dbsites.{self.name}.settings",
            PYTHONPATH=os.pathsep.join([str(ROOT), str(self.path)]),
            # Others' warnings are theirs.
            PYTHONDEVMODE="",
            PYTHONWARNINGS="",
        )

    def manage(self, *arguments: str, pool: Any = None) -> str:
        """Run a management command; return what it prints."""
        return self._run(["-m", "django", *arguments], pool)

    def run(self, script: str, pool: Any = None) -> Any:
        """Run a script after a set-up of Django; return what it prints, which is JSON."""
        return json.loads(self._run(["-c", f"import django; django.setup()\n{script}"], pool))

    def _run(self, arguments: list[str], pool: Any) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment(pool),
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def serve(self, threads: int, pool: Any = None) -> Iterator[str]:
        """Serve by gunicorn, one process; yields the site's URL."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "tests.packages.dbsites.wsgi"]
        command += [f"--bind=127.0.0.1:{port}", f"--threads={threads}", "--log-level=warning"]
        server = subprocess.Popen(
            [*command, "--no-control-socket"], cwd=ROOT, env=self.environment(pool)
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: server.poll() is not None or _answers(url), within=WITHIN)
            yield url
        finally:
            server.terminate()
            server.wait(WITHIN)


def get(url: str, host: str = "localhost") -> tuple[int, str]:
    """Ask for a page of the site of that host; return the status and the text."""
    request = urllib.request.Request(url, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=WITHIN) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


TENANTS = "abc"


def ask_as_tenants(url: str, requests: int) -> list[str]:
    """Ask for notes, many at once, as several tenants; return what isn't as it should be."""

    def ask(number: int) -> str:
        tenant = TENANTS[number % len(TENANTS)]
        page = ("notes", "stream", "notes", "fail", "notes")[number % 5]
        status, text = get(f"{url}/{page}", f"{tenant}.test")
        seen = {word for word in TENANTS if f"of {word}" in text or f"tenant_{word}" in text}
        right = status == 500 if page == "fail" else seen == {tenant}
        return "" if right else f"{page} of {tenant}: {status} {text[:500]}"

    with ThreadPoolExecutor(12) as executor:
        return [wrong for wrong in executor.map(ask, range(requests)) if wrong]


def _answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True
