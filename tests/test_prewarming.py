from __future__ import annotations

from typing import Any

import pytest

from tests.support.processes import run_script

WAIT = """
import time
def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
def connects():
    return connection.pool.statistics().connects
"""


@pytest.fixture
def databases(database: dict[str, Any]) -> dict[str, Any]:
    return {"default": {**database, "OPTIONS": {"pool": {"min_size": 2, "prewarm": True}}}}


APP = {"INSTALLED_APPS": ["django_pooled_pg"]}


def test_the_app_opens_connections_when_django_is_ready(databases: dict[str, Any]) -> None:
    script = WAIT + "wait_for(lambda: connection.pool.statistics().idle == 2)"
    run_script(script, databases, **APP)


def test_nothing_is_opened_unless_asked_for(databases: dict[str, Any]) -> None:
    databases["default"]["OPTIONS"]["pool"]["prewarm"] = False
    run_script(WAIT + "assert connects() == 0", databases, **APP)


def test_management_commands_are_left_alone(databases: dict[str, Any]) -> None:
    script = """
import sys
from django_pooled_pg.prewarming import prewarm_if_serving
sys.argv = ["manage.py", "migrate"]
prewarm_if_serving()
assert connection.pool.statistics().connects == 0
sys.argv = ["/usr/bin/gunicorn", "app"]
prewarm_if_serving()
connection.pool.borrow()
"""
    run_script(script, databases)


def test_without_the_app_it_can_be_called(databases: dict[str, Any]) -> None:
    script = WAIT + (
        "import django_pooled_pg; assert connects() == 0; django_pooled_pg.prewarm(); "
        "wait_for(lambda: connects() == 2)"
    )
    run_script(script, databases)


def test_wait_returns_when_the_connections_are_there(databases: dict[str, Any]) -> None:
    databases["default"]["OPTIONS"]["pool"]["prewarm"] = "wait"
    run_script("assert connection.pool.statistics().size == 2", databases, **APP)


def test_wait_fails_with_the_servers_own_error(databases: dict[str, Any]) -> None:
    databases["default"]["OPTIONS"]["pool"]["prewarm"] = "wait"
    databases["default"]["NAME"] = "no_such_database"
    script = """
import logging
import django_pooled_pg
from django.db import OperationalError
logging.getLogger("psycopg.pool").disabled = True  # it tells of each attempt, as it should
try:
    django_pooled_pg.prewarm()
except OperationalError as error:
    assert "does not exist" in str(error)
else:
    raise AssertionError
"""
    run_script(script, databases)


def test_forked_workers_prewarm_pools_of_their_own(databases: dict[str, Any]) -> None:
    script = (
        WAIT
        + """
wait_for(lambda: connection.pool.statistics().idle == 2)
if not (pid := os.fork()):
    wait_for(lambda: connects() == 2)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    )
    run_script(script, databases, **APP)
