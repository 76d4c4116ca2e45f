"""The assertions, in the tests of a site, which a real pytest runs.

Also of `watch.py`, `as_if.py`, `holding.py` and `calls.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.shop import RunPytest, running_pytest


@pytest.fixture(scope="module")
def run_pytest(django_db_setup: None, django_db_blocker: Any) -> Iterator[RunPytest]:
    from django.db import connection

    with django_db_blocker.unblock(), running_pytest(connection.settings_dict) as run:
        yield run


@pytest.fixture(scope="module")
def ran(run_pytest: RunPytest) -> tuple[dict[str, str], str]:
    return run_pytest("cases.py")


def wrong(outcomes: dict[str, str]) -> dict[str, str]:
    """Return those whose name tells otherwise."""

    def expected(name: str) -> str:
        return "FAILED" if re.sub(r"\[.*", "", name).endswith("_fails") else "PASSED"

    return {name: outcome for name, outcome in outcomes.items() if outcome != expected(name)}


def test_tests_of_pytest_pass_and_fail_with_and_without_a_transaction_around(
    ran: tuple[dict[str, str], str],
) -> None:
    outcomes, out = ran
    assert len(outcomes) > 80, out
    assert sum("[in_transaction" in name for name in outcomes) * 2 == len(outcomes)
    assert wrong(outcomes) == {}, out
