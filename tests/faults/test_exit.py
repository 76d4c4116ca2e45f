"""A process ends without a warning, a traceback or a wait, whatever it holds."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.processes import run_script

# Where it fails, psycopg_pool waits 5 s for each of its threads.
AT_ONCE = 5.0


@pytest.fixture
def databases(database: dict[str, Any]) -> dict[str, Any]:
    return {"default": {**database, "OPTIONS": {"pool": {"min_size": 2}}}}


@pytest.mark.parametrize(
    "script",
    [
        "",
        "connection.pool",
        "backend_pid()",
        "backend_pid(); connection.close()",
        "transaction.set_autocommit(False); backend_pid()",
        "import logging, threading; logging.disable(); "
        "t = threading.Thread(target=backend_pid); t.start(); t.join()",
        "import threading; t = threading.Thread(target=backend_pid, daemon=True); t.start()",
        "connection.pool.open()",
    ],
)
def test_exit(databases: dict[str, Any], script: str) -> None:
    finish = "import time; print(time.time())"
    ended = float(run_script(f"{script}\n{finish}", databases).split()[-1])
    assert time.time() - ended < AT_ONCE


def test_exit_while_the_server_cannot_be_reached(databases: dict[str, Any]) -> None:
    databases["default"]["PORT"] = "1"
    script = """
import logging, time
from django.db import OperationalError
logging.getLogger("psycopg.pool").disabled = True  # it tells of each attempt, as it should
try:
    backend_pid()
except OperationalError:
    print(time.time())
"""
    assert time.time() - float(run_script(script, databases)) < AT_ONCE


def test_a_command_of_one_query_opens_one_connection(databases: dict[str, Any]) -> None:
    databases["default"]["OPTIONS"]["pool"]["min_size"] = 1
    script = """
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
print(connection.pool.statistics().connects)
"""
    assert run_script(script, databases) == "1\n"
