"""`advice.py`, each rule of `advice_rules.py`, and what the rules know: `advice_known.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from django_pooled_pg.monitoring.advice import advise
from django_pooled_pg.monitoring.advice_rules import RULES
from django_pooled_pg.monitoring.report import ProcessReport
from django_pooled_pg.monitoring.server import ServerSide, Sessions
from tests.monitoring.made_up import buckets, pool, report, silent
from tests.support.processes import ROOT

WAITED = {"wait_buckets": buckets(*[0.00001] * 150, *[0.12] * 50), "wait_max": 0.13}
FULL = {"size": 10, "in_use": 10, "borrows": 200, "returns": 190}
IDLING = {"held_total": 190 * 0.085, "worked_total": 190 * 0.006}
WORKING = {"held_total": 190 * 0.085, "worked_total": 190 * 0.06}


def server(**facts: Any) -> ServerSide:
    """100 connections at most, 3 of them reserved, nobody there."""
    usual = {"alias": "default", "max_connections": 100, "reserved": 3}
    return ServerSide(**{**usual, **facts})


def rules(*pools: dict[str, Any], side: ServerSide | None = None, **of_report: Any) -> list[str]:
    """The rules that apply to a process with these pools."""
    return [advice.rule for advice in advised(*pools, side=side, **of_report)]


def advised(*pools: dict[str, Any], side: ServerSide | None = None, **of_report: Any) -> Any:
    servers = {side.alias: side} if side is not None else None
    return advise([report(12, *pools, **of_report), silent()], servers)


def text(*pools: dict[str, Any], **rest: Any) -> str:
    (advice,) = advised(*pools, **rest)
    return str(advice.text)


def holder(**facts: Any) -> dict[str, Any]:
    usual = {"alias": "default", "thread": "worker-1", "held": 1.0, "pinned": None}
    return {**usual, "place": "at /srv/site/views.py:33 in slow", **facts}


def test_nothing_to_advise() -> None:
    assert advise([]) == []
    assert advise([silent()], {"default": server()}) == []
    assert rules(pool(), side=server()) == []
    well = pool(size=3, borrows=5000, returns=5000, connects=3, held_total=9.0, worked_total=4.0)
    assert rules(well, side=server()) == []


def test_advice_of_several_databases_in_order() -> None:
    pools = [pool("b", reclaimed=1), pool("a", reclaimed=1, paused=True), pool("c")]
    found = [(advice.alias, advice.rule) for advice in advise([report(1, *pools)])]
    assert found == [("a", "paused"), ("a", "reclaimed"), ("b", "reclaimed")]
    assert [advice.alias for advice in advise([report(1, *pools)], database="b")] == ["b"]


def test_figures_of_all_processes_count_together() -> None:
    half = pool(**{**FULL, **WAITED, **WORKING, "borrows": 60, "returns": 60})
    idle = pool(size=2, borrows=60)
    assert advise([report(1, pool(**{**half, "borrows": 90}))]) == []
    (advice,) = advise([report(1, half), report(2, idle)])
    assert "in 1 of 2 pools" in advice.text


def test_too_small() -> None:
    assert text(pool(**FULL, **WAITED, **WORKING)) == (
        "waits p95 124 ms with all 10 in use: raise max_size, or make queries faster: connections "
        "were held 85 ms, of which statements took 60 ms."
    )


def test_held_while_the_database_has_nothing_to_do() -> None:
    assert text(pool(**FULL, **WAITED, **IDLING)) == (
        "waits p95 124 ms with all 10 in use: raise max_size, or use return_at=transaction or "
        "without_connection() around slow calls: connections were held 85 ms, of which "
        "statements took 6.0 ms."
    )


def test_return_at_transaction_is_not_advised_where_it_is_so() -> None:
    said = text(pool(**FULL, **WAITED, **IDLING, return_at="transaction"))
    assert "return_at" not in said
    assert "or shorten transactions or use without_connection()" in said


@pytest.mark.parametrize(
    "less",
    [
        {"borrows": 99},
        {"wait_buckets": buckets(*[0.00001] * 200)},
        {"size": 9, "in_use": 9},
    ],
    ids=["too few figures", "short waits", "not full"],
)
def test_no_larger_pool_is_advised(less: dict[str, Any]) -> None:
    assert rules(pool(**{**FULL, **WAITED, **WORKING, **less})) == []


SPENT = {"budget": 10, "slots": 10}


def test_a_budget_that_is_spent() -> None:
    assert text(pool(**FULL, **WAITED, **WORKING, **SPENT)) == (
        "waits p95 124 ms with all 10 slots of the budget taken: raise the budget if the server has "
        "room, or make queries faster."
    )
    assert (
        "raise the budget, or hold connections for a shorter time: connections were held 85"
        in text(pool(**FULL, **WAITED, **IDLING, **SPENT))
    )
    assert rules(pool(**{**FULL, **WAITED, **WORKING, "budget": 11, "slots": 9})) == ["too-small"]


def test_a_budget_counts_once_for_what_the_server_allows() -> None:
    pools = [pool(max_size=60, budget=60)] * 2
    assert rules(*pools, side=server()) == []
    pools = [pool(max_size=100, budget=100)] * 2
    (advice,) = advise([report(1, *pools)], {"default": server()})
    assert advice.text.startswith("a budget of 100 = 100 of 97 allowed")


def test_waits_are_explained_by_a_pause() -> None:
    assert rules(pool(**FULL, **WAITED, **WORKING, paused=True)) == ["paused"]


def test_a_pool_that_was_full() -> None:
    assert "with all 10 open:" in text(pool(**{**FULL, "in_use": 1}, **WAITED, **WORKING))


def test_paused() -> None:
    said = text(pool(paused=True, waiting=5), pool())
    assert said.startswith("1 of 2 pools paused, 5 borrowers waiting")


def test_connect_errors() -> None:
    assert text(pool(connects=20, connect_errors=3)).startswith(
        "3 of 20 attempts to connect failed"
    )
    assert rules(pool(connects=20, connect_errors=2)) == []
    assert rules(pool(connects=100, connect_errors=4)) == []


def test_exhausted_by_connections_held_long() -> None:
    said = text(pool(exhausted=1, borrows=50, held_max=45.0))
    assert said.startswith("1 borrower turned away, 50 got a connection (timeout 10.0 s)")
    assert "held up to 45.0 s: find out by whom" in said


def test_exhausted_by_too_many_borrowers() -> None:
    said = text(pool(exhausted=12, borrows=50, held_max=0.4))
    assert "held 400 ms at most: raise max_size" in said


def test_exhausted_by_what_could_be_canceled(settings: Any) -> None:
    by = {"exhausted": 12, "borrows": 50}
    hint = "CancelAbandonedMiddleware, which isn't in MIDDLEWARE, stops them"
    assert hint in text(pool(**by, held_max=45.0))
    assert hint not in text(pool(**by, held_max=0.4))  # who holds isn't the question
    middleware = "django_pooled_pg.middleware.CancelAbandonedMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    assert hint not in text(pool(**by, held_max=45.0))


def test_abandoned_while_waiting() -> None:
    said = text(pool(borrows=60, abandoned_waiting=40, abandoned_working=2))
    assert said.startswith(
        "42 requests were stopped because their clients had gone, 40 of them while they waited for "
        "a connection (60 borrows): "
    )
    assert "raise max_size" in said


def test_abandoned_at_work() -> None:
    assert "make these queries faster" in text(pool(borrows=200, abandoned_working=10))
    assert rules(pool(borrows=200, abandoned_working=9)) == []
    assert rules(pool(borrows=99, abandoned_working=90)) == []


def test_deadlines() -> None:
    assert text(pool(borrows=200, deadlines=10)).startswith(
        "10 pieces of work were stopped by their deadline (200 borrows)"
    )
    assert rules(pool(borrows=200, deadlines=9)) == []
    assert rules(pool(borrows=99, deadlines=90)) == []


def test_held_long() -> None:
    times = {"held_max": 0.1, "held_buckets": buckets(*[0.004] * 200)}
    held = pool(in_use=3, borrows=203, returns=200, **times)
    holders = [holder(held=5.0), holder(held=75.0), holder(held=130.0, thread="leaky")]
    said = text(held, holders=holders)
    assert said.startswith(
        "2 of 3 in use have been held for 10.0 s or longer, one for 130 s by thread leaky of process "
        "12, now at /srv/site/views.py:33 in slow (p95 of those returned: 4.9 ms)"
    )
    assert rules(held, holders=holders[:1]) == []
    assert rules(held, holders=[holder(held=90.0, alias="other")]) == []


def test_oversized() -> None:
    four = [report(pid, pool(max_size=10, size=5)) for pid in range(4)]
    (advice,) = advise(four, {"default": server(total=80)})
    assert advice.rule == "oversized"
    assert advice.text.startswith(
        "4 pools x 10 = 40 of 97 allowed (max_connections 100, 3 reserved), and others have 60:"
    )
    assert advise(four, {"default": server(total=20 + 57)}) == []
    assert advise(four) == []
    assert advise(four, {"other": server(alias="other", total=80)}) == []
    assert advise(four, {"default": ServerSide(alias="default", error="refused")}) == []


def test_oversized_for_its_role() -> None:
    two = [report(1, pool(max_size=10)), report(2, pool(max_size=5))]
    (advice,) = advise(two, {"default": server(role_limit=12)})
    assert "1 pool x 10 + 1 pool x 5 = 15 of 12 allowed" in advice.text


def test_idle_in_transaction() -> None:
    idling = Sessions(
        host="local",
        application_name="",
        state="idle in transaction",
        count=2,
        longest_in_state=45.0,
        longest_transaction=46.0,
    )
    side = server(sessions=(idling,), total=2)
    said = text(pool(), side=side)
    assert said.startswith("2 of 2 connections are idle in a transaction, the longest for 45.0 s")
    short = Sessions(
        host="local",
        application_name="",
        state="idle in transaction",
        count=2,
        longest_in_state=9.0,
        longest_transaction=46.0,
    )
    assert rules(pool(), side=server(sessions=(short,))) == []


def test_reclaimed() -> None:
    assert text(pool(reclaimed=1, returns=7)).startswith("1 of 7 connections returned had to be")


def test_dead() -> None:
    assert text(pool(dead=11)).startswith("11 connections were found dead, more than the 10")
    assert rules(pool(dead=10)) == []
    assert rules(pool(dead=9, max_size=2)) == []


MANY = {"borrows": 200, "connects": 30, "connect_total": 0.75}


def test_many_connects() -> None:
    said = text(pool(**MANY))
    assert said.startswith(
        "30 connections were opened for 200 borrows, at 25 ms each: raise min_size"
    )
    assert rules(pool(**{**MANY, "connects": 29})) == []  # 10 of them fill the pool
    assert rules(pool(**{**MANY, "borrows": 99, "connects": 90})) == []


def test_many_connects_of_a_null_pool() -> None:
    assert 'class "null" keeps none' in text(pool(**MANY, pool_class="null"))


def test_pinned() -> None:
    pinned = pool(borrows=200, pinned=40)
    assert text(pinned).startswith("40 of 200 borrows kept their connection")
    assert "`--holders` shows what" in text(pinned)
    holders = [holder(pinned="SET"), holder(pinned="LISTEN"), holder(pinned="SET"), holder()]
    assert "now: SET (2), LISTEN (1)" in text(pinned, holders=holders)
    assert rules(pool(borrows=200, pinned=39)) == []
    assert rules(pool(borrows=99, pinned=99)) == []


def test_many_resets() -> None:
    assert text(pool(returns=200, resets=40)).startswith("40 resets for 200 returns")
    assert rules(pool(returns=200, resets=39)) == []
    assert rules(pool(returns=99, resets=99)) == []


def test_too_large() -> None:
    large = pool(max_size=60, size=3, borrows=1000, connects=3)
    assert text(large).startswith(
        "1 pool x 60 = 60, but for 1000 borrows 3 connections were enough"
    )
    assert "= 60, of 97 allowed, but" in text(large, side=server())
    assert rules(large, side=server(max_connections=500)) == []
    assert rules(pool(max_size=50, size=3, borrows=1000, connects=3)) == []
    assert rules(pool(max_size=60, size=3, borrows=999, connects=3)) == []
    assert rules(pool(max_size=60, size=16, borrows=1000, connects=16)) == []
    # Of an interval: how many there were at its begin is not known.
    assert rules(pool(max_size=60, size=3, borrows=1000, connects=2)) == []


# Recorded: a site of 2 processes with 8 threads each, 14 clients, all of whose requests make two
# queries and wait 85 ms for something else in between.


def recorded(name: str) -> tuple[list[ProcessReport], dict[str, ServerSide]]:
    text = (Path(__file__).parent / "recorded" / f"{name}.json").read_text()
    said = json.loads(text)
    said["server"]["sessions"] = tuple(Sessions(**each) for each in said["server"]["sessions"])
    reports = [ProcessReport(pid=each["pid"], snapshot=each) for each in said["snapshots"]]
    return reports, {"default": ServerSide(**said["server"])}


def test_recorded_with_4_connections_kept_to_the_requests_end() -> None:
    (advice,) = advise(*recorded("held_idle"))
    assert (advice.alias, advice.rule) == ("default", "held-idle")
    assert advice.text == (
        "waits p95 98 ms with all 4 in use in 1 of 2 pools: raise max_size, or use "
        "return_at=transaction or without_connection() around slow calls: connections were held "
        "90 ms, of which statements took 3.9 ms."
    )


def test_recorded_with_8_connections_returned_after_each_transaction() -> None:
    assert advise(*recorded("well")) == []


# Documentation


def test_every_rule_is_documented_and_no_other() -> None:
    page = (ROOT / "docs/advice.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(RULES)
