from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import override_settings

from django_pooled_pg.checks.project import KNOWN, check_deployment, check_settings
from tests.support.processes import ROOT

MIDDLEWARE = "django_pooled_pg.middleware.PoolExhaustedMiddleware"


def test_the_project_of_the_tests_has_nothing_wrong() -> None:
    assert list(check_settings()) == []


def test_a_misspelt_setting_is_told_with_what_was_meant() -> None:
    with override_settings(POOLED_PG_RUNTIMEDIR="/run/site"):
        (message,) = check_settings()
    assert message.id == "pooled_pg.W001"
    assert "POOLED_PG_RUNTIMEDIR" in message.msg
    assert message.hint is not None
    assert message.hint.startswith("Did you mean POOLED_PG_RUNTIME_DIR?")
    assert "/run/site" not in str(message)


def test_every_setting_that_the_package_reads_is_known_and_no_other() -> None:
    package = ROOT / "django_pooled_pg"
    read = {
        name
        for path in package.rglob("*.py")
        if path != package / "checks" / "project.py"
        for name in re.findall(r'"(POOLED_PG_[A-Z_]+)"', path.read_text())
    }
    assert read == KNOWN


@pytest.mark.parametrize("name", ["POOLED_PG_PROCESSES", "POOLED_PG_REQUEST_TIMEOUT"])
@pytest.mark.parametrize("value", ["8", 0, -1, True, 2.5])
def test_a_number_that_is_none_is_an_error(name: str, value: object) -> None:
    with override_settings(**{name: value}):
        (message,) = check_settings()
    assert message.id == "pooled_pg.E002"
    assert message.is_serious()
    assert message.msg.startswith(f"{name} is {'a string' if value == '8' else value}; ")


@pytest.mark.parametrize("value", [8, None])
def test_numbers_that_are_right_give_no_message(value: int | None) -> None:
    with override_settings(POOLED_PG_PROCESSES=value, POOLED_PG_REQUEST_TIMEOUT=value):
        assert list(check_settings()) == []


def test_what_production_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    with override_settings(POOLED_PG_PROCESSES=None, MIDDLEWARE=[]):
        assert [message.id for message in check_deployment()] == [
            "pooled_pg.I007",
            "pooled_pg.I008",
        ]


def test_a_site_that_is_ready_for_production_gets_no_message() -> None:
    with override_settings(POOLED_PG_PROCESSES=4, MIDDLEWARE=[MIDDLEWARE, *settings.MIDDLEWARE]):
        assert list(check_deployment()) == []
