"""The pytest plugin: its markers are in `testing/test_assertions.py`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.support.processes import environment
from tests.support.shop import RunPytest, running_pytest, wrong


@pytest.fixture(scope="module")
def run_pytest(django_db_setup: None, django_db_blocker: Any) -> Iterator[RunPytest]:
    with django_db_blocker.unblock(), running_pytest(connection.settings_dict) as run:
        yield run


def test_an_option_for_all_tests(run_pytest: RunPytest) -> None:
    outcomes, out = run_pytest("cases_plugin.py", "--no-connection-while-calling=transaction")
    assert len(outcomes) == 6, out
    assert wrong(outcomes) == {}, out


def test_an_option_with_the_settings_that_are(run_pytest: RunPytest) -> None:
    outcomes, out = run_pytest("cases_plugin.py", "--no-connection-while-calling=configured")
    assert outcomes.pop("test_calls_after_a_query") == "FAILED", out
    assert wrong(outcomes) == {}, out


def test_hosts_that_may_be_called(run_pytest: RunPytest) -> None:
    option = "--no-connection-while-calling=request"
    outcomes, out = run_pytest("cases_plugin.py", option, "-o", "pooled_pg_allowed_calls=localhost")
    assert set(outcomes.values()) == {"PASSED"}, out


def test_without_the_option_nothing_is_watched(run_pytest: RunPytest) -> None:
    outcomes, out = run_pytest("cases_plugin.py")
    assert set(outcomes.values()) == {"PASSED"}, out


def test_what_can_not_be_watched_is_refused_in_words(run_pytest: RunPytest) -> None:
    outcomes, out = run_pytest("cases_refused.py")
    assert set(outcomes.values()) == {"FAILED"}, out
    assert "use `async with max_borrows(...)` of django_pooled_pg in the test" in out
    assert "use PoolAssertions of django_pooled_pg in the test" in out


def test_it_imports_neither_django_nor_psycopg() -> None:
    script = """
import sys
import pytest
before = set(sys.modules)
import django_pooled_pg.pytest_plugin
added = {name.partition(".")[0] for name in set(sys.modules) - before}
assert added == {"django_pooled_pg"}, added
assert sum(name.startswith("django_pooled_pg") for name in sys.modules) == 2
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)


def test_it_is_there_for_whoever_has_the_package_installed(
    pytestconfig: pytest.Config,
) -> None:
    assert pytestconfig.pluginmanager.has_plugin("django_pooled_pg")
