from __future__ import annotations

import pytest
from django.test import override_settings

from django_pooled_pg.checks.serving import Known, processes, request_timeout

VARIABLES = [
    "UWSGI_HARAKIRI",
    "UWSGI_PROCESSES",
    "UWSGI_WORKERS",
    "WEB_CONCURRENCY",
]


@pytest.fixture(autouse=True)
def no_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_any_word_nothing_is_known() -> None:
    assert processes() is None
    assert request_timeout() is None


@pytest.mark.parametrize(
    ("name", "value", "source"),
    [
        ("WEB_CONCURRENCY", "4", "WEB_CONCURRENCY"),
        ("UWSGI_PROCESSES", "4", "UWSGI_PROCESSES"),
        ("UWSGI_WORKERS", "4", "UWSGI_WORKERS"),
    ],
)
def test_the_number_of_processes_comes_with_its_source(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, source: str
) -> None:
    monkeypatch.setenv(name, value)
    assert processes() == Known(4, source)


def test_the_setting_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with override_settings(POOLED_PG_PROCESSES=4):
        assert processes() == Known(4, "POOLED_PG_PROCESSES")


@pytest.mark.parametrize("value", ["", "auto", "0", "-1", "2.5"])
def test_what_the_web_server_would_refuse_is_not_known(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", value)
    monkeypatch.setenv("UWSGI_HARAKIRI", value)
    assert processes() is None
    assert request_timeout() is None


def test_uwsgi_stops_requests_and_the_setting_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWSGI_HARAKIRI", "15")
    assert request_timeout() == Known(15, "UWSGI_HARAKIRI")
    with override_settings(POOLED_PG_REQUEST_TIMEOUT=5):
        assert request_timeout() == Known(5, "POOLED_PG_REQUEST_TIMEOUT")
