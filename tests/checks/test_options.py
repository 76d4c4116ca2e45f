"""`options.py`, and `budget.py`."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.test import override_settings

from django_pooled_pg.checks.options import check_options
from django_pooled_pg.pooling.config import PoolConfig

NULL = {"pool": {"class": "null"}}
BOUND = {"server_side_binding": True}
ON = {"DISABLE_SERVER_SIDE_CURSORS": True}


@pytest.fixture(autouse=True)
def no_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UWSGI_HARAKIRI", "UWSGI_PROCESSES", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)


def check(**settings: Any) -> list[CheckMessage]:
    config = PoolConfig.from_settings("default", settings)
    assert config is not None
    return [*check_options("default", settings, config)]


def ids(messages: list[CheckMessage]) -> set[str]:
    assert len({message.id for message in messages}) == len(messages)
    return {str(message.id).removeprefix("pooled_pg.") for message in messages}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, set()),
        ({"HOST": "db", "PORT": 5432}, set()),
        # Behind PgBouncer, as it should be: no server-side cursors, nothing prepared, no pool.
        ({"OPTIONS": {**NULL, "prepare_threshold": None}, **ON}, set()),
        ({"OPTIONS": NULL, "PORT": "6432", **ON}, set()),
        # ... and not as it should be.
        ({"OPTIONS": NULL}, {"W002"}),
        ({"OPTIONS": {**NULL, **BOUND, "prepare_threshold": 5}, **ON}, {"W003"}),
        ({"OPTIONS": {**NULL, **BOUND, "prepare_threshold": 0}, **ON}, {"W003"}),
        # One without the other prepares nothing.
        ({"OPTIONS": {**NULL, **BOUND}, **ON}, set()),
        ({"OPTIONS": {**NULL, "prepare_threshold": 0}, **ON}, set()),
        ({"OPTIONS": {**NULL, "assume_role": "owner"}, **ON}, {"W009"}),
        ({"PORT": "6432", **ON}, {"I001"}),
        ({"PORT": 6432}, {"I001", "W002"}),
        ({"HOST": "a,b", "PORT": "5432,6432", **ON}, {"I001"}),
        ({"HOST": "pgbouncer.internal", **ON}, {"I001"}),
        ({"PORT": "6432", "OPTIONS": {**BOUND, "prepare_threshold": 5}, **ON}, {"I001", "W003"}),
        # With a server that is none, all are fine.
        ({"OPTIONS": {**BOUND, "prepare_threshold": 5, "assume_role": "owner"}}, set()),
        ({"CONN_HEALTH_CHECKS": True}, {"I002"}),
        ({"CONN_HEALTH_CHECKS": False}, set()),
        ({"ATOMIC_REQUESTS": True}, set()),
        ({"ATOMIC_REQUESTS": True, "OPTIONS": {"pool": {"return_at": "transaction"}}}, {"I004"}),
        ({"ATOMIC_REQUESTS": False, "OPTIONS": {"pool": {"return_at": "transaction"}}}, set()),
        ({"OPTIONS": {"pool": {"reset": "never"}}}, {"W005"}),
        ({"OPTIONS": {"pool": {"reset": "always"}}}, set()),
        ({"OPTIONS": {"pool": {"class": "null", "reset": "never"}}, **ON}, set()),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], expected: set[str]) -> None:
    assert ids(check(**settings)) == expected


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({}, set()),
        ({"timeout": 19.5, "leak_threshold": 19}, set()),
        ({"timeout": 20}, {"W004"}),
        ({"leak_threshold": 20}, {"I005"}),
        ({"timeout": 30, "leak_threshold": 60}, {"W004", "I005"}),
    ],
)
def test_times_that_the_web_server_does_not_leave(pool: dict[str, Any], expected: set[str]) -> None:
    with override_settings(POOLED_PG_REQUEST_TIMEOUT=20):
        assert ids(check(OPTIONS={"pool": pool})) == expected


def test_any_time_is_fine_where_the_web_server_says_nothing() -> None:
    assert check(OPTIONS={"pool": {"timeout": 3600, "leak_threshold": 3600}}) == []


def test_a_time_that_is_too_long_is_named_with_the_other_and_its_source() -> None:
    with override_settings(POOLED_PG_REQUEST_TIMEOUT=20):
        (message,) = check(OPTIONS={"pool": {"timeout": 30}})
    assert "up to 30 s" in message.msg
    assert "after 20 s (POOLED_PG_REQUEST_TIMEOUT)" in message.msg
    assert message.obj == "DATABASES['default']"


@pytest.mark.parametrize(
    ("processes", "min_size", "expected"),
    [
        (None, 50, set()),
        (10, 5, {"I003"}),
        (9, 5, set()),
        # The default, however many there are.
        (200, 1, set()),
    ],
)
def test_connections_that_many_processes_keep_open(
    processes: int | None, min_size: int, expected: set[str]
) -> None:
    with override_settings(POOLED_PG_PROCESSES=processes):
        assert ids(check(OPTIONS={"pool": {"min_size": min_size}})) == expected


def test_a_budget_that_has_no_room_for_all_processes() -> None:
    shared = {"OPTIONS": {"pool": {"budget": 6, "min_size": 2}}}
    with override_settings(POOLED_PG_PROCESSES=3):
        assert check(**shared) == []
    with override_settings(POOLED_PG_PROCESSES=4):
        (message,) = check(**shared)
    assert message.id == "pooled_pg.W014"
    assert "x 'min_size' 2 = 8 connections are more than the 'budget' of 6" in message.msg


def test_a_folder_in_which_no_budget_can_be_shared() -> None:
    with override_settings(POOLED_PG_RUNTIME_DIR="here"):
        assert check(OPTIONS={"pool": {}}) == []
        (message,) = check(OPTIONS={"pool": {"budget": 6}})
    assert message.id == "pooled_pg.W015"
    assert "POOLED_PG_RUNTIME_DIR is not an absolute path" in message.msg
