"""Fixtures for the dashboard: who asks, and what the processes say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_pooled_pg.monitoring import client as monitoring_client
from django_pooled_pg.monitoring.dashboard.servers import servers
from django_pooled_pg.monitoring.report import ProcessReport
from django_pooled_pg.monitoring.server import ServerSide
from tests.monitoring.dashboard.site import busy_pool, holder
from tests.monitoring.made_up import report, silent

Say = Callable[..., None]


@pytest.fixture(autouse=True)
def asks_anew() -> None:
    """What servers said is kept for some seconds: not from one test to the next."""
    servers.forget()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Let the processes say these reports from now on, and the servers these sides."""

    def say(reports: list[ProcessReport], *sides: ServerSide) -> None:
        monkeypatch.setattr(monitoring_client, "collect", lambda *args, **kwargs: reports)
        monkeypatch.setattr(
            "django_pooled_pg.monitoring.dashboard.data.servers.sides",
            lambda aliases: {side.alias: side for side in sides if side.alias in aliases},
        )

    return say


@pytest.fixture
def one_busy(say: Say) -> None:
    say([report(77, busy_pool(), holders=[holder()]), silent()], ServerSide(alias="default"))


@pytest.fixture
def staff(db: Any) -> Client:
    return logged_in(is_staff=True)


@pytest.fixture
def visitor(db: Any) -> Client:
    """Logged in, but not staff."""
    return logged_in()


def logged_in(**flags: bool) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("somebody", **flags))
    return client
