"""Runs the tests of `tests/testing/site` with a real pytest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from tests.support.processes import ROOT, environment

SITE = ROOT / "tests" / "testing" / "site"
NAME = "shop_of_tests"
OPTIONS = (
    *("-c", "/dev/null", "--confcutdir=.", "--ds=settings", "--strict-markers", "--reuse-db"),
    *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:ddtrace", "-rA", "--tb=short"),
)

RunPytest = Callable[..., tuple[dict[str, str], str]]


@contextmanager
def running_pytest(database: dict[str, Any]) -> Iterator[RunPytest]:
    """Yield what runs pytest in the site, and returns each test's outcome and all of the output."""
    plain = {k: database[k] for k in ("ENGINE", "HOST", "PORT", "USER", "PASSWORD")}
    # Of its own in each process of pytest-xdist.
    name = f"{NAME}_{connection.settings_dict['NAME']}"
    databases = {"default": {**plain, "NAME": name, "OPTIONS": {"pool": {"max_size": 4}}}}

    def run(*arguments: str) -> tuple[dict[str, str], str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, *arguments],
            cwd=SITE,
            env=environment(
                DATABASES=json.dumps(databases),
                PYTHONPATH=f"{ROOT}:{SITE}",
                PYTHONDONTWRITEBYTECODE="1",
                PYTHONWARNINGS="",
            ),
            capture_output=True,
            text=True,
            timeout=100,
        )
        out = done.stdout + done.stderr
        assert done.returncode in (0, 1), out
        found = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) [\w/.]+::(\S+)", out, re.MULTILINE)
        return {name: outcome for outcome, name in found}, out

    yield run
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS test_{name}")
    connection.close()


def wrong(outcomes: dict[str, str]) -> dict[str, str]:
    """Return those that are other than their names tell: `..._fails`."""

    def expected(name: str) -> str:
        return "FAILED" if re.sub(r"\[.*", "", name).endswith("_fails") else "PASSED"

    return {name: outcome for name, outcome in outcomes.items() if outcome != expected(name)}
