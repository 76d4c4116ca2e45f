from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring import client
from django_pooled_pg.monitoring.control import ACTIONS, WrongRequest, control
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.pool import Pool
from tests.monitoring.members import ask, member
from tests.support.queries import fetch, hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def wrapper(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    return make_wrapper({"max_size": 3, "timeout": 30})


@pytest.fixture
def pool(wrapper: DatabaseWrapper) -> Pool:
    """With one idle connection."""
    pool = wrapper.pool
    assert pool is not None
    pool.open(wait=True)
    wait_until(lambda: pool.statistics().idle == 1)
    return pool


def said(action: str, alias: str, **sizes: Any) -> str:
    result = control(action, alias, **sizes)
    assert isinstance(result["process"], str)
    (done,) = result["done"]
    assert done["name"] == alias
    return str(done["said"])


def test_drain(pool: Pool, wrapper: DatabaseWrapper) -> None:
    assert said("drain", pool.alias) == (
        "replacing 1 idle connections now, and 0 in use as they return"
    )
    wait_until(lambda: pool.statistics().connects == 2)
    hold(wrapper)
    assert "and 1 in use" in said("drain", pool.alias)


def test_check(pool: Pool) -> None:
    assert said("check", pool.alias) == "asked the server over 1 idle connections, dropped 0"
    (connection,) = pool._connector.alive()
    connection.pgconn.finish()
    assert said("check", pool.alias) == "asked the server over 1 idle connections, dropped 1"


def test_resize(pool: Pool) -> None:
    assert said("resize", pool.alias, min_size=2, max_size=5) == (
        "min_size 1 -> 2, max_size 3 -> 5, until the process ends"
    )
    s = pool.statistics()
    assert (s.min_size, s.max_size) == (2, 5)
    assert said("resize", pool.alias, max_size=4).startswith("min_size 2 -> 2, max_size 5 -> 4")


def test_a_budget_is_changed_where_there_is_one(pool: Pool, make_wrapper: Any, folder: Any) -> None:
    (done,) = control("resize", pool.alias, budget=9)["done"]
    assert "isn't set, so it can't be changed" in done["error"]
    shared = make_wrapper({"budget": 5}).pool
    assert said("resize", shared.alias, budget=7) == (
        "min_size 1 -> 1, max_size 5 -> 7, budget 5 -> 7, until the process ends"
    )
    assert shared.supply.member.record.limit == 7


def test_sizes_that_do_not_go_together(pool: Pool) -> None:
    (done,) = control("resize", pool.alias, min_size=9)["done"]
    assert set(done) == {"name", "error"}
    assert "more than max_size 3" in done["error"]
    assert pool.statistics().min_size == 1


def test_pause_and_resume(pool: Pool, wrapper: DatabaseWrapper) -> None:
    assert said("resume", pool.alias) == "was not paused"
    assert said("pause", pool.alias) == (
        "paused: closed 1 idle connections; 0 in use are closed as they return"
    )
    assert said("pause", pool.alias) == "paused already; 0 in use are closed as they return"
    assert said("drain", pool.alias).startswith("paused: nothing is idle")
    assert said("check", pool.alias) == "asked the server over 0 idle connections, dropped 0"
    assert pool.statistics().paused
    assert said("resume", pool.alias) == "resumed: 0 borrowers were waiting"
    assert fetch(wrapper, "SELECT 1") == 1


def test_all_pools_of_the_alias_and_no_other(make_wrapper: MakeWrapper) -> None:
    mine = [make_wrapper({"max_size": n, "name": f"pool{n}"}, alias="both").pool for n in (1, 2)]
    other = make_wrapper().pool
    assert other is not None
    done = control("pause", "both")["done"]
    assert {"pool1", "pool2"} == {pool["name"] for pool in done}
    assert all(pool is not None and pool.statistics().paused for pool in mine)
    assert not other.statistics().paused
    control("resume", "both")


def test_no_such_pool() -> None:
    assert control("drain", "nobody's")["done"] == []


def test_a_pool_that_fails_does_not_keep_the_others_from_it(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for n in (1, 2):
        assert make_wrapper({"name": f"pool{n}"}, alias="half").pool

    def drain() -> None:
        raise LookupError("sesame")

    (failing,) = [pool for pool in registry.pools() if (pool.alias, pool.name) == ("half", "pool1")]
    monkeypatch.setattr(failing, "drain", drain)
    with caplog.at_level(logging.ERROR):
        done = {pool["name"]: pool for pool in control("drain", "half")["done"]}
    assert done["pool1"]["error"] == "LookupError; see the site's log"
    assert "replacing" in done["pool2"]["said"]
    assert "Pool 'pool1': could not drain" in caplog.text


# Wrong requests

WRONG = [
    ({"action": "stop", "alias": "default"}, "no action is named 'stop', only: drain, check"),
    ({"action": ["drain"], "alias": "default"}, "no action is named"),
    ({"action": None, "alias": "default"}, "no action is named"),
    ({"action": {}, "alias": "default"}, "no action is named"),
    ({"action": "drain", "alias": None}, "'alias' is not a string"),
    ({"action": "drain", "alias": ["default"]}, "'alias' is not a string"),
    ({"action": "resize", "alias": "default"}, "needs 'min_size', 'max_size' or 'budget'"),
    ({"action": "pause", "alias": "default", "max_size": 3}, "are for 'resize'"),
]


@pytest.mark.parametrize(("arguments", "error"), WRONG)
def test_wrong_requests(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(WrongRequest, match=error):
        control(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        *WRONG,
        ({"action": "drain"}, "TypeError in the process that was asked"),
        ({"alias": "default"}, "TypeError in the process that was asked"),
        ({}, "TypeError in the process that was asked"),
        (
            {"action": "drain", "alias": "default", "force": True},
            "TypeError in the process that was asked",
        ),
    ],
)
def test_wrong_requests_are_answered_and_leave_the_endpoint_alive(
    running: Path, arguments: dict[str, Any], error: str
) -> None:
    request = json.dumps({"request": "control", **arguments})
    answer = ask(running, request.encode() + b"\n")
    assert answer["ok"] is False
    assert error in answer["error"]
    assert ask(running)["ok"] is True
    good = ask(running, b'{"request":"control","action":"check","alias":"nobody\'s"}\n')
    assert good["result"]["done"] == []


@pytest.mark.parametrize(
    "sizes",
    [{"min_size": "3"}, {"max_size": 2.5}, {"max_size": [1]}, {"max_size": True}, {"min_size": -1}],
)
def test_sizes_of_the_wrong_type(running: Path, pool: Pool, sizes: dict[str, Any]) -> None:
    request = {"request": "control", "action": "resize", "alias": pool.alias, **sizes}
    answer = ask(running, json.dumps(request).encode() + b"\n")
    (done,) = answer["result"]["done"]
    assert "give a whole number of at least 0" in done["error"]
    s = pool.statistics()
    assert (s.min_size, s.max_size) == (1, 3)


def test_over_the_endpoint(running: Path, pool: Pool) -> None:
    request = {"request": "control", "action": "pause", "alias": pool.alias}
    (answer,) = client.ask(request, 5)
    assert answer.pid == os.getpid()
    assert answer.result is not None
    assert answer.result["done"][0]["said"].startswith("paused: closed 1 idle")
    assert pool.statistics().paused
    pool.resume()


def test_what_is_wrong_reaches_the_one_who_asked(folder: Path) -> None:
    with member(folder) as process:
        (answer,) = client.ask({"request": "control", "action": "stop", "alias": "default"}, 5)
    assert answer.pid == process.pid
    assert answer.error is not None
    assert "no action is named 'stop'" in answer.error


def test_every_action_is_tried_here() -> None:
    assert set(ACTIONS) == {"drain", "check", "resize", "pause", "resume"}
    assert issubclass(WrongRequest, ValueError)
    assert not issubclass(WrongRequest, ImproperlyConfigured)
