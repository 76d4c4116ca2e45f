"""`render.py`, with the cells of its tables: `cells.py`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from django_pooled_pg.monitoring.advice import Advice
from django_pooled_pg.monitoring.cells import longest_held
from django_pooled_pg.monitoring.render import (
    advice_text,
    as_json,
    holders_table,
    server_text,
    table,
)
from django_pooled_pg.monitoring.server import ServerSide, Sessions
from django_pooled_pg.pooling.counters import BOUNDS, empty_buckets
from tests.monitoring.made_up import buckets, pool, report, silent

SILENT = silent()

BUSY = pool(
    size=3,
    in_use=1,
    idle=2,
    waiting=4,
    borrows=10,
    returns=5,
    wait_total=0.02,
    wait_max=0.0123,
    wait_buckets=buckets(*[0.00001] * 9, 0.0123),
    held_total=0.1,
    held_max=2.5,
    held_buckets=buckets(0.001, 0.001, 0.004, 0.004, 2.5),
    worked_total=0.025,
    connects=7,
    connect_errors=2,
    exhausted=3,
)
LESS_BUSY = pool(
    size=1,
    borrows=30,
    returns=30,
    wait_total=0.06,
    wait_max=0.5,
    wait_buckets=buckets(*[0.00001] * 29, 0.5),
    held_total=0.6,
    held_max=0.2,
    held_buckets=buckets(*[0.002] * 30),
    connects=1,
)


def lines(text: str) -> list[list[str]]:
    """The table's lines, but for its heading; cells are at least two blanks apart."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()[2:]]


def test_columns() -> None:
    groups, names = table([report(12, BUSY)]).splitlines()[:2]
    assert groups.split() == ["WAIT", "HELD"]
    times = ["P50", "P95", "P99", "MAX"]
    assert [cell.strip() for cell in names.split("  ") if cell] == [
        *["ALIAS", "PROCESS", "SIZE", "IN USE", "IDLE", "WAITING", "BORROWS"],
        *times,
        *times,
        *["CONNECTS", "ERRORS"],
    ]
    assert groups.index("WAIT") == names.index("P50")
    assert groups.index("HELD") == names.rindex("P50")


def test_figures_of_a_pool_in_milliseconds() -> None:
    row = lines(table([report(12, BUSY)]))[0]
    assert row == [
        *["default", "12 gunicorn", "3/10", "1", "2", "4", "10"],
        *["0.056", "11.2", "12.1", "12.3"],
        *["2.8", "2375", "2475", "2500"],
        *["7", "5"],
    ]


def test_totals_add_up() -> None:
    total = lines(table([report(12, BUSY), report(14, LESS_BUSY)]))[2]
    assert total == [
        *["default", "total of 2 processes", "4/20", "1", "2", "4", "40"],
        *["0.053", "0.100", "380", "500"],
        *["1.5", "3.9", "2325", "2500"],
        *["8", "5"],
    ]


def test_no_figure_where_nothing_was_measured() -> None:
    unused = lines(table([report(12, pool())]))[0]
    assert unused[6:15] == ["0", *"--------"]
    borrowed = pool(borrows=1, wait_max=0.002, wait_buckets=buckets(0.002))
    still_held = lines(table([report(12, borrowed)]))[0]
    assert still_held[6:15] == ["1", "1.5", "1.9", "2.0", "2.0", *"----"]


def test_a_paused_pool_is_marked_and_so_is_its_total() -> None:
    rows = lines(table([report(12, pool(paused=True)), report(14, pool()), report(15, pool("e"))]))
    assert [row[0] for row in rows[:5]] == ["default PAUSED", "default", "default PAUSED", "e", "e"]


def test_what_else_happened_in_words() -> None:
    text = table([report(12, BUSY), report(14, pool(reclaimed=1, resets=3)), report(15, pool("b"))])
    said = [line for line in text.splitlines() if ": " in line]
    assert said == [
        "default: 3 exhausted, 2 connects failed, 1 reclaimed, 3 resets, held 20.0 on average, "
        "of which statements took 5.0."
    ]


def test_who_has_the_slots_of_a_budget() -> None:
    shared = [pool(budget=8, slots=6, slots_given=3), pool(budget=8, slots=2, slots_wanted=4)]
    text = table([report(12, shared[0]), report(14, shared[1])])
    assert (
        "default: of a budget of 8, 12 gunicorn has 6, 14 gunicorn has 2 and wants 4 more; "
        "3 given up to others."
    ) in text.splitlines()


def test_what_was_stopped_in_words() -> None:
    stopped = pool(abandoned_waiting=7, abandoned_working=2)
    text = table([report(12, stopped), report(14, pool(deadlines=3)), report(15, pool("b"))])
    assert [line for line in text.splitlines() if ": " in line] == [
        "default: stopped: 7 abandoned while they waited, 2 abandoned at work, "
        "3 past their deadline."
    ]


def test_the_period_is_told() -> None:
    since_start = "Times are in milliseconds; counts and times since each process started."
    assert table([report(12, BUSY)]).splitlines()[-1] == since_start
    text = table([report(12, BUSY)], period="of the last 2.0 s")
    assert text.endswith("counts and times of the last 2.0 s.")


def test_fits_a_wide_terminal() -> None:
    huge = {
        name: 100_000 if isinstance(number, int) and name != "paused" else number
        for name, number in BUSY.items()
    }
    assert (
        max(map(len, table([report(1234567, huge, process="manage.py migrate")]).splitlines()))
        <= 170
    )
    assert max(map(len, table([report(12345, BUSY)]).splitlines())) <= 150


def test_sorted_by_alias_then_process() -> None:
    reports = [report(101, pool("b"), pool("a")), report(20, pool("b"), pool("a"))]
    first_cells = [tuple(row[:2]) for row in lines(table(reports))[:6]]
    assert first_cells == [
        ("a", "20 gunicorn"),
        ("a", "101 gunicorn"),
        ("a", "total of 2 processes"),
        ("b", "20 gunicorn"),
        ("b", "101 gunicorn"),
        ("b", "total of 2 processes"),
    ]


def test_several_pools_of_an_alias_in_one_process() -> None:
    rows = lines(table([report(12, pool(size=1), pool(name="reports", size=2))]))
    assert [row[:3] for row in rows[:3]] == [
        ["default", "12 gunicorn", "1/10"],
        ["default (reports)", "12 gunicorn", "2/10"],
        ["default", "total of 1 process", "3/20"],
    ]


def test_only_one_database() -> None:
    reports = [report(12, pool("a"), pool("b")), report(14, pool("a")), SILENT]
    assert [row[:2] for row in lines(table(reports, "b"))[:2]] == [
        ["b", "12 gunicorn"],
        ["b", "total of 1 process"],
    ]
    chosen = as_json(reports, "b")
    assert [process["pid"] for process in chosen] == [12, 13]
    assert [p["alias"] for p in chosen[0]["pools"]] == ["b"]


def test_silent_processes_come_below_the_table() -> None:
    text = table([SILENT, report(14, BUSY)])
    above, below = text.split("\n\n")
    assert "14 gunicorn" in above
    assert below == "Process 13: no answer within 1 s"
    assert table([SILENT]) == below


def test_nothing_to_show() -> None:
    assert table([]) == ""
    assert as_json([]) == []
    assert table([report(12, pool("a"))], "b") == ""
    assert as_json([report(12, pool("a"))], "b") == []


def test_json_has_raw_figures_with_units() -> None:
    processes = json.loads(json.dumps(as_json([report(12, BUSY), SILENT])))
    assert processes == [
        {
            "pid": 12,
            "parent_pid": 1,
            "process": "gunicorn",
            "started_epoch_seconds": 1000.5,
            "pools": [
                {
                    "alias": "default",
                    "name": "default",
                    "pool_class": "pool",
                    "return_at": "request",
                    "min_size": 1,
                    "max_size": 10,
                    "timeout_seconds": 10.0,
                    "paused": False,
                    "size": 3,
                    "in_use": 1,
                    "idle": 2,
                    "waiting": 4,
                    "budget": 0,
                    "slots": 0,
                    "slots_wanted": 0,
                    "slots_given": 0,
                    "borrows": 10,
                    "returns": 5,
                    "wait_total_seconds": 0.02,
                    "wait_max_seconds": 0.0123,
                    "wait_buckets": buckets(*[0.00001] * 9, 0.0123),
                    "wait_p50_seconds": pytest.approx(0.0000556, rel=0.01),
                    "wait_p95_seconds": pytest.approx(0.01115),
                    "wait_p99_seconds": pytest.approx(0.01207),
                    "held_total_seconds": 0.1,
                    "held_max_seconds": 2.5,
                    "held_buckets": buckets(0.001, 0.001, 0.004, 0.004, 2.5),
                    "held_p50_seconds": pytest.approx(0.00275),
                    "held_p95_seconds": pytest.approx(2.375),
                    "held_p99_seconds": pytest.approx(2.475),
                    "worked_total_seconds": 0.025,
                    "exhausted": 3,
                    "abandoned_waiting": 0,
                    "abandoned_working": 0,
                    "deadlines": 0,
                    "reclaimed": 0,
                    "pinned": 0,
                    "dead": 0,
                    "resets": 0,
                    "connects": 7,
                    "connect_errors": 2,
                    "connect_total_seconds": 0,
                    "connect_max_seconds": 0,
                    "connect_buckets": empty_buckets(),
                    "connect_p50_seconds": None,
                    "connect_p95_seconds": None,
                    "connect_p99_seconds": None,
                    "bucket_bounds_seconds": list(BOUNDS),
                }
            ],
        },
        {"pid": 13, "error": "no answer within 1 s"},
    ]


# Holders


def holder(
    held: float, alias: str = "default", pinned: str | None = None, **work: Any
) -> dict[str, Any]:
    return {
        "abandoned": False,
        "remaining": None,
        **work,
        "alias": alias,
        "name": alias,
        "thread": "worker-1",
        "thread_id": 4711,
        "held": held,
        "pinned": pinned,
        "place": "at /srv/site/views.py:33 in slow",
    }


HELD = [
    report(12, holders=[holder(3.0), holder(130.0, "other", "SET")]),
    silent(),
    report(14, holders=[holder(0.02)]),
]


def test_the_longest_holders_of_all_processes() -> None:
    longest = longest_held(HELD, 2)
    assert [(h["pid"], h["held_seconds"]) for h in longest] == [(12, 130.0), (12, 3.0)]
    assert [h["held_seconds"] for h in longest_held(HELD, 9, "default")] == [3.0, 0.02]
    assert "held" not in longest[0]


def test_table_of_holders() -> None:
    heading, columns, first, *_ = holders_table(longest_held(HELD, 2)).splitlines()
    assert heading == "Held longest at this moment:"
    assert columns.split("  ")[0] == "ALIAS"
    assert [cell.strip() for cell in first.split("  ") if cell] == [
        *["other", "12 gunicorn", "worker-1", "SET", "130 s", "/srv/site/views.py:33 in slow"],
    ]


def test_holders_whose_work_may_be_unwanted() -> None:
    works: list[dict[str, Any]] = [{"abandoned": True}, {"remaining": 2.5}, {"remaining": 0.0}, {}]
    reports = [report(12, holders=[holder(9.0 - n, **work) for n, work in enumerate(works)])]
    longest = longest_held(reports, 9)
    assert [each["remaining_seconds"] for each in longest] == [None, 2.5, 0.0, None]
    _, columns, *rows = holders_table(longest).splitlines()
    at = columns.index("WORK")
    assert [row[at : at + 17].strip() for row in rows] == [
        *["abandoned", "2.5 s left", "past its deadline", "-"]
    ]
    assert "WORK" not in holders_table(longest_held(HELD, 9))  # nothing to say of any


def test_nobody_holds_a_connection() -> None:
    assert holders_table(longest_held([silent()], 10)) == "No connection is held at this moment."


# Server

SIDE = ServerSide(
    alias="default",
    version="18.4",
    max_connections=100,
    reserved=3,
    total=9,
    sessions=(
        Sessions(
            host="10.0.0.4",
            application_name="site",
            state="idle",
            count=4,
            longest_in_state=2.5,
            longest_transaction=None,
        ),
        Sessions(
            host="local",
            application_name="",
            state="idle in transaction",
            count=1,
            longest_in_state=45.0,
            longest_transaction=46.0,
        ),
    ),
)


def test_what_the_server_says() -> None:
    first, heading, idle, busy, last = server_text(SIDE).splitlines()
    assert first == (
        "Server of default (PostgreSQL 18.4): 5 connections of this project, 4 others, 97 allowed "
        "(max_connections 100 less 3 reserved)."
    )
    assert heading.split("  ")[0] == "HOST"
    assert idle.split() == ["10.0.0.4", "site", "idle", "4", "2.5", "s", "-"]
    assert " ".join(busy.split()) == "local - idle in transaction 1 45.0 s 46.0 s"
    assert last == "Idle in transaction: 1, longest 45.0 s; longest transaction: 46.0 s."


def test_limits_of_role_and_database_are_told() -> None:
    side = dataclasses.replace(SIDE, role_limit=20, database_limit=30)
    assert "20 allowed (max_connections 100 less 3 reserved, 20 for this role, 30 for this" in (
        server_text(side)
    )


def test_what_the_server_hides_is_told() -> None:
    assert "Hidden" not in server_text(SIDE)
    side = dataclasses.replace(SIDE, hidden=3)
    assert server_text(side).splitlines()[-1].startswith("Hidden: what 3 of the others are and do")


def test_a_server_that_does_not_answer_is_one_line() -> None:
    side = ServerSide(alias="default", error="connection refused")
    assert server_text(side) == "Server of default: can't be asked: connection refused"


def test_no_session_no_table() -> None:
    assert "HOST" not in server_text(dataclasses.replace(SIDE, sessions=()))


# Advice


def test_advice_names_alias_and_rule() -> None:
    assert advice_text([Advice(alias="a", rule="dead", text="40 were found dead.")]) == (
        "Advice:\na: 40 were found dead. [dead]"
    )


def test_no_advice_is_said() -> None:
    assert advice_text([]) == "Nothing to advise."
