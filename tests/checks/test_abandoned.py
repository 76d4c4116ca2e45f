from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.http import HttpRequest
from django.test import override_settings

from django_pooled_pg.checks import abandoned
from django_pooled_pg.checks.abandoned import check_abandoned, check_server_tells
from django_pooled_pg.middleware import CancelAbandonedMiddleware

OURS = "django_pooled_pg.middleware.CancelAbandonedMiddleware"
EXHAUSTED = "django_pooled_pg.middleware.PoolExhaustedMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
SYNC_ONLY = f"{__name__}.sync_only"


def sync_only(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    return get_response


class AsyncCancelAbandonedMiddleware(CancelAbandonedMiddleware):
    sync_capable = False


def messages(*middleware: str, **changes: Any) -> list[CheckMessage]:
    with override_settings(MIDDLEWARE=list(middleware), **changes):
        return list(check_abandoned())


def test_without_the_middleware_there_is_nothing_to_say() -> None:
    assert messages(SECURITY) == []


@pytest.mark.parametrize("before", [[], [EXHAUSTED]])
def test_first_or_after_others_of_ours_is_right(before: list[str]) -> None:
    assert messages(*before, OURS, SECURITY, ASGI_APPLICATION="site.asgi.application") == []


@pytest.mark.parametrize("ours", [OURS, f"{__name__}.AsyncCancelAbandonedMiddleware"])
def test_middleware_before_it_is_told(ours: str) -> None:
    (message,) = messages(SECURITY, ours)
    assert message.id == "pooled_pg.W010"
    assert SECURITY in message.msg


def test_sync_only_middleware_after_it_matters_under_asgi() -> None:
    assert messages(OURS, SECURITY, SYNC_ONLY, ASGI_APPLICATION=None) == []
    (message,) = messages(OURS, SECURITY, SYNC_ONLY, ASGI_APPLICATION="site.asgi.application")
    assert message.id == "pooled_pg.W011"
    assert SYNC_ONLY in message.msg


def test_what_is_async_only_is_not_run_in_a_thread() -> None:
    asgi = {"ASGI_APPLICATION": "site.asgi.application"}
    assert messages(f"{__name__}.AsyncCancelAbandonedMiddleware", SYNC_ONLY, **asgi) == []


def test_middleware_that_is_not_there_is_left_to_django() -> None:
    assert messages(OURS, "nothing.of.that.Name") == []


@pytest.mark.parametrize("name", ["POOLED_PG_ABANDONED_AFTER", "POOLED_PG_REQUEST_DEADLINE"])
@pytest.mark.parametrize("value", [-1, "1", float("nan"), 1e12])
def test_impossible_settings_are_errors(name: str, value: Any) -> None:
    (message,) = messages(OURS, **{name: value})
    assert message.id == "pooled_pg.E002"
    assert message.is_serious()
    assert message.msg.startswith(f"{name} needs a number of seconds")


def test_settings_without_the_middleware_have_no_effect() -> None:
    (message,) = messages(POOLED_PG_REQUEST_DEADLINE=30)
    assert message.id == "pooled_pg.W012"
    assert messages(OURS, POOLED_PG_REQUEST_DEADLINE=30, POOLED_PG_ABANDONED_AFTER=0) == []


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        (["mod_wsgi"], ["pooled_pg.W013"]),
        (["mod_wsgi", "gunicorn"], []),
        ([], []),
    ],
)
def test_servers_that_tell_nothing_are_told(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], told: list[str]
) -> None:
    monkeypatch.setattr(abandoned, "find_spec", lambda name: name in installed)
    with override_settings(MIDDLEWARE=[OURS]):
        assert [message.id for message in check_server_tells()] == told
    with override_settings(MIDDLEWARE=[]):
        assert list(check_server_tells()) == []
