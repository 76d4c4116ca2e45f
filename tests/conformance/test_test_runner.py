"""Django's test runner, pytest-django and pytest-xdist on a project with two pooled aliases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.db import connection

from tests.support.processes import environment
from tests.support.queries import fetch

PROJECT = Path(__file__).parent / "project"

Run = Callable[..., str]

without_forkserver = pytest.mark.skipif(
    sys.version_info >= (3, 14) and django.VERSION < (6,),
    reason="Django 5.2 runs nothing in parallel on Python 3.14, with its own engine neither",
)


@pytest.fixture
def run(database: dict[str, Any], django_db_blocker: Any) -> Iterator[Run]:
    """Run a command in the project; it must succeed and leave no session on the server."""

    def settings(name: str) -> dict[str, Any]:
        plain = {k: database[k] for k in ("ENGINE", "HOST", "PORT", "USER", "PASSWORD")}
        return {**plain, "NAME": name, "OPTIONS": {"application_name": "runner"}}

    aliases = {"default": settings("runner_books"), "other": settings("runner_other")}
    shared = {
        "default": settings("runner_books"),
        "replica": {**settings("elsewhere"), "TEST": {"MIRROR": "default"}},
        "twin": settings("runner_books"),
    }

    def run(*command: str, one_database: bool = False) -> str:
        result = subprocess.run(
            [sys.executable, *command],
            cwd=PROJECT,
            env=environment(
                DATABASES=json.dumps(shared if one_database else aliases),
                DJANGO_SETTINGS_MODULE="settings",
                PYTHONDONTWRITEBYTECODE="1",
            ),
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        with django_db_blocker.unblock():
            sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runner'"
            assert fetch(connection, sql) == 0
            connection.close()
        return result.stdout + result.stderr

    yield run
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        for name in ("books", "other"):
            for suffix in ("", "_1", "_2", "_gw0", "_gw1"):
                cursor.execute(f"DROP DATABASE IF EXISTS test_runner_{name}{suffix}")


def test_manage_py_test(run: Run) -> None:
    assert "OK" in run("manage.py", "test", "books.tests", "--noinput")


@without_forkserver
def test_parallel(run: Run) -> None:
    out = run("manage.py", "test", "books.tests", "--noinput", "--parallel", "2")
    assert "OK" in out
    assert "Cloning" in run("manage.py", "test", "books.tests", "--noinput", "--parallel=2", "-v2")


def test_keepdb(run: Run) -> None:
    run("manage.py", "test", "books.tests", "--noinput", "--keepdb")
    out = run("manage.py", "test", "books.tests", "--noinput", "--keepdb", "-v2")
    assert "Using existing test database" in out


@without_forkserver
def test_keepdb_in_parallel(run: Run) -> None:
    for _ in range(2):
        run("manage.py", "test", "books.tests", "--noinput", "--keepdb", "--parallel", "2")


@pytest.mark.parametrize("options", [(), ("--parallel=2",), ("--keepdb",)], ids=str)
def test_aliases_of_one_database(run: Run, options: tuple[str, ...]) -> None:
    """None keeps the others from dropping it, or from cloning it."""
    tests = "books.tests_of_one_database"
    assert "OK" in run("manage.py", "test", tests, "--noinput", *options, one_database=True)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_pytest_django(run: Run, processes: str) -> None:
    options = ["-c", "/dev/null", "--rootdir=.", "--ds=settings", "-p", "no:cacheprovider"]
    out = run("-m", "pytest", *options, "-n", processes, "--create-db", "books/tests.py")
    assert "10 passed" in out
