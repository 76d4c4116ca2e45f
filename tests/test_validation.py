"""`validation.py`, and `apps.py`, which registers it."""

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
from django_pooled_pg.pooling import registry
from django_pooled_pg.validation import PoolValidation, check_all, check_deploy
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


def test_good_settings_give_no_message(django_db_setup: None, django_db_blocker: Any) -> None:
    assert check_all() == []
    with django_db_blocker.unblock():
        assert connections["default"].validation.check() == []


def test_a_check_opens_no_pool(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = make_wrapper(alias="checked")
    monkeypatch.setitem(connections.databases, "checked", wrapper.settings_dict)
    monkeypatch.setattr(connections._connections, "checked", wrapper, raising=False)
    assert PoolValidation(wrapper).check() == []
    assert "checked" not in [pool.alias for pool in registry.pools()]


def test_bad_settings_give_an_error_with_id_and_hint(bad: DatabaseWrapper) -> None:
    (error,) = check_all()
    assert error.id == "pooled_pg.E001"
    assert "did you mean 'max_size'" in error.msg
    assert error.obj == "DATABASES['bad']"
    assert error.hint == (
        "docs/settings.md describes every option. See docs/checks.md#pooled_pge001."
    )


def test_each_alias_is_checked_once_with_the_app_or_without(bad: DatabaseWrapper) -> None:
    assert PoolValidation(bad).check() == []
    installed = [app for app in settings.INSTALLED_APPS if app != "django_pooled_pg"]
    with override_settings(INSTALLED_APPS=installed):
        assert [message.id for message in PoolValidation(bad).check()] == ["pooled_pg.E001"]


def test_settings_that_do_not_go_together_are_told_with_the_app_or_without(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper(pool={"reset": "never"}, alias="odd")
    monkeypatch.setitem(connections.databases, "odd", wrapper.settings_dict)
    monkeypatch.setattr(connections._connections, "odd", wrapper, raising=False)
    assert [message.id for message in check_all()] == ["pooled_pg.W005"]
    assert PoolValidation(wrapper).check() == []
    installed = [app for app in settings.INSTALLED_APPS if app != "django_pooled_pg"]
    with override_settings(INSTALLED_APPS=installed):
        assert [message.id for message in PoolValidation(wrapper).check()] == ["pooled_pg.W005"]


def test_without_a_pool_nothing_is_checked_for_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    assert [message.id for message in check_deploy()] == ["pooled_pg.I007", "pooled_pg.I008"]
    default = connections["default"].settings_dict
    monkeypatch.setitem(default, "OPTIONS", {**default["OPTIONS"], "pool": False})
    assert check_deploy() == []


def check_command(*arguments: str, **environment: str) -> str:
    """Return what `manage.py check` says about pools."""
    result = subprocess.run(
        [sys.executable, "testproject/manage.py", "check", *arguments],
        cwd=ROOT,
        env={**os.environ, "WEB_CONCURRENCY": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return "".join(line for line in result.stderr.splitlines(True) if "(pooled_pg." in line)


def test_the_server_is_asked_only_with_its_alias() -> None:
    too_many = {"WEB_CONCURRENCY": "1000"}
    assert check_command(**too_many) == ""
    assert "pooled_pg.W007" in check_command("--database", "default", **too_many)


def test_production_is_checked_only_with_deploy() -> None:
    assert check_command("--database", "default") == ""
    assert "pooled_pg.I007" in check_command("--deploy")


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
