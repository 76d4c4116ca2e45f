from __future__ import annotations

import pytest
from django.test import override_settings

from django_pooled_pg.checks.serving import Known, processes, request_timeout

VARIABLES = [
    "GUNICORN_CMD_ARGS",
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
        ("GUNICORN_CMD_ARGS", "--bind=:80 --workers 4", "--workers in GUNICORN_CMD_ARGS"),
        ("GUNICORN_CMD_ARGS", "--workers=4 -t 3", "--workers in GUNICORN_CMD_ARGS"),
        ("GUNICORN_CMD_ARGS", "-w4", "--workers in GUNICORN_CMD_ARGS"),
    ],
)
def test_the_number_of_processes_comes_with_its_source(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, source: str
) -> None:
    monkeypatch.setenv(name, value)
    assert processes() == Known(4, source)


def test_the_setting_goes_first_and_gunicorns_arguments_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 3")
    assert processes() == Known(3, "--workers in GUNICORN_CMD_ARGS")
    with override_settings(POOLED_PG_PROCESSES=4):
        assert processes() == Known(4, "POOLED_PG_PROCESSES")


@pytest.mark.parametrize("arguments", ["--workers", "--workers auto", "-w 0", "'", "-w 'x y' -t"])
def test_what_the_web_server_would_refuse_is_not_known(
    monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)
    assert processes() is None
    assert request_timeout() is None


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        ("--timeout 20", True),
        ("-t 20 -k sync --threads 1", True),
        # Their time-out is of the worker, not of its requests.
        ("--timeout 20 --threads 4", False),
        ("--timeout 20 --worker-class gthread", False),
        ("--timeout 0", False),
    ],
)
def test_gunicorn_stops_requests_of_sync_workers_only(
    monkeypatch: pytest.MonkeyPatch, arguments: str, known: bool
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)
    assert request_timeout() == (Known(20, "--timeout in GUNICORN_CMD_ARGS") if known else None)


def test_uwsgi_stops_requests_and_the_setting_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWSGI_HARAKIRI", "15")
    assert request_timeout() == Known(15, "UWSGI_HARAKIRI")
    with override_settings(POOLED_PG_REQUEST_TIMEOUT=5):
        assert request_timeout() == Known(5, "POOLED_PG_REQUEST_TIMEOUT")
