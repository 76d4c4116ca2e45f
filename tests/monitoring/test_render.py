from __future__ import annotations

import json

from django_pooled_pg.monitoring.render import as_json, table
from django_pooled_pg.pooling.statistics import empty_buckets
from tests.monitoring.made_up import pool, report, silent

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
    held_total=0.1,
    held_max=2.5,
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
    held_total=0.6,
    held_max=0.2,
    connects=1,
)


def lines(text: str) -> list[list[str]]:
    """The table's lines, but for its heading; cells are at least two blanks apart."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()[1:]]


def test_columns() -> None:
    heading = table([report(12, BUSY)]).splitlines()[0]
    assert [cell.strip() for cell in heading.split("  ") if cell] == [
        "ALIAS",
        "PROCESS",
        "SIZE",
        "IN USE",
        "IDLE",
        "WAITING",
        "BORROWS",
        "WAIT MEAN",
        "WAIT MAX",
        "HELD MEAN",
        "HELD MAX",
        "CONNECTS",
        "ERRORS",
    ]


def test_figures_of_a_pool_in_milliseconds() -> None:
    row = lines(table([report(12, BUSY)]))[0]
    assert row == (
        [
            "default",
            "12 gunicorn",
            "3/10",
            "1",
            "2",
            "4",
            "10",
            "2.0",
            "12.3",
            "20.0",
            "2500.0",
            "7",
            "5",
        ]
    )


def test_totals_have_weighted_means_and_the_greatest_maximum() -> None:
    total = lines(table([report(12, BUSY), report(14, LESS_BUSY)]))[2]
    assert total == (
        [
            "default",
            "total of 2 processes",
            "4/20",
            "1",
            "2",
            "4",
            "40",
            "2.0",
            "500.0",
            "20.0",
            "2500.0",
            "8",
            "5",
        ]
    )


def test_short_times_keep_their_digits() -> None:
    row = lines(table([report(12, pool(borrows=2, wait_total=0.00002, wait_max=0.000015))]))[0]
    assert row[7:9] == ["0.010", "0.015"]


def test_no_figure_where_nothing_was_measured() -> None:
    unused = lines(table([report(12, pool())]))[0]
    assert unused[6:11] == ["0", "-", "-", "-", "-"]
    still_held = lines(table([report(12, pool(borrows=1, wait_total=0.002, wait_max=0.002))]))[0]
    assert still_held[6:11] == ["1", "2.0", "2.0", "-", "-"]


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
    assert below == "Process 13: not answering within 1 s"
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
                    "borrows": 10,
                    "returns": 5,
                    "wait_total_seconds": 0.02,
                    "wait_max_seconds": 0.0123,
                    "wait_buckets": empty_buckets(),
                    "held_total_seconds": 0.1,
                    "held_max_seconds": 2.5,
                    "held_buckets": empty_buckets(),
                    "worked_total_seconds": 0,
                    "exhausted": 3,
                    "reclaimed": 0,
                    "pinned": 0,
                    "dead": 0,
                    "resets": 0,
                    "connects": 7,
                    "connect_errors": 2,
                    "connect_total_seconds": 0,
                    "connect_max_seconds": 0,
                    "connect_buckets": empty_buckets(),
                }
            ],
        },
        {"pid": 13, "error": "not answering within 1 s"},
    ]
