from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.validation import PoolValidation, check_all
from tests.support.processes import ROOT

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def bad(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseWrapper]:
    """An alias with a wrong option, among `connections`."""
    wrapper = make_wrapper(pool={"maxsize": 2}, alias="bad")
    monkeypatch.setitem(connections.databases, "bad", wrapper.settings_dict)
    monkeypatch.setattr(connections._connections, "bad", wrapper, raising=False)
    yield wrapper
    del wrapper.settings_dict["OPTIONS"]["pool"]


def test_good_settings_give_no_message(make_wrapper: MakeWrapper) -> None:
    assert PoolValidation(make_wrapper(pool={"max_size": 2})).check() == []


def test_bad_settings_give_an_error_with_id_and_hint(bad: DatabaseWrapper) -> None:
    (error,) = check_all()
    assert error.id == "pooled_pg.E001"
    assert "did you mean 'max_size'" in error.msg
    assert error.obj == "DATABASES['bad']"
    assert error.hint


def test_each_alias_is_checked_once_with_the_app_or_without(bad: DatabaseWrapper) -> None:
    assert PoolValidation(bad).check() == []
    installed = [app for app in settings.INSTALLED_APPS if app != "django_pooled_pg"]
    with override_settings(INSTALLED_APPS=installed):
        assert [message.id for message in PoolValidation(bad).check()] == ["pooled_pg.E001"]


@pytest.mark.parametrize("arguments", [["check"], ["check", "--database", "default"], ["migrate"]])
def test_a_bad_setting_stops_commands_without_a_traceback(arguments: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "testproject/manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "TESTPROJECT_POOL": '{"maxsize": 4}'},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode != 0
    assert "pooled_pg.E001" in result.stderr
    assert "did you mean 'max_size'" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("E001") == 1


def test_a_bad_dotted_path_stops_the_check_without_a_traceback() -> None:
    result: Any = subprocess.run(
        [sys.executable, "testproject/manage.py", "check"],
        cwd=ROOT,
        env={**os.environ, "TESTPROJECT_POOL": '{"configure": "no.such.callable"}'},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "can't be imported from 'no.such.callable'" in result.stderr
    assert "Traceback" not in result.stderr
