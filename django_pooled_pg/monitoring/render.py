"""Owns how reports are shown to people and to programs; asks nobody itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from .figures import Pool, total
from .report import ProcessReport

_HEADER = (
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
)
_TEXT_COLUMNS = 2
_TIMES = (
    *("timeout", "worked_total"),
    *("wait_total", "wait_max", "held_total", "held_max", "connect_total", "connect_max"),
)


def as_json(reports: Sequence[ProcessReport], database: str | None = None) -> list[dict[str, Any]]:
    """Return one object per process, for JSON; with `database`, pools of that alias only.

    Each has `pid` and either `error`, for a process that didn't answer, or `parent_pid`,
    `process`, `started_epoch_seconds` and `pools`. Each pool has the fields of
    `PoolStatistics`, with `wait_total_seconds`, `wait_max_seconds`, `held_total_seconds` and
    `held_max_seconds` for the times.
    """
    processes: list[dict[str, Any]] = []
    for report in reports:
        if report.snapshot is None:
            processes.append({"pid": report.pid, "error": report.error})
        elif pools := _pools_of(report.snapshot, database):
            processes.append(
                {
                    "pid": report.pid,
                    "parent_pid": report.snapshot.get("parent_pid"),
                    "process": report.snapshot["process"],
                    "started_epoch_seconds": report.snapshot.get("started"),
                    "pools": [_with_units(pool) for pool in pools],
                }
            )
    return processes


def table(reports: Sequence[ProcessReport], database: str | None = None) -> str:
    """Return a table of all pools, by alias and process, with a total for each alias.

    With `database`, pools of that alias only. Times are in milliseconds; ERRORS counts failed
    attempts to connect and borrowers turned away. Processes that didn't answer come below.
    Empty when there is nothing to show.
    """
    blocks = []
    rows = list(_rows(reports, database))
    if rows:
        blocks.append(_aligned([_HEADER, *rows]) + "\nTimes are in milliseconds.")
    silent = [f"Process {r.pid}: {r.error}" for r in reports if r.snapshot is None]
    if silent:
        blocks.append("\n".join(silent))
    return "\n\n".join(blocks)


def _pools_of(snapshot: dict[str, Any], database: str | None) -> list[Pool]:
    return [p for p in snapshot["pools"] if database is None or p["alias"] == database]


def _with_units(pool: Pool) -> Pool:
    return {f"{key}_seconds" if key in _TIMES else key: value for key, value in pool.items()}


def _rows(reports: Sequence[ProcessReport], database: str | None) -> Iterator[tuple[str, ...]]:
    found = [
        (pool["alias"], report.pid, report.snapshot["process"], pool)
        for report in reports
        if report.snapshot is not None
        for pool in _pools_of(report.snapshot, database)
    ]
    found.sort(key=itemgetter(0, 1))
    for alias, group in groupby(found, key=itemgetter(0)):
        pools = []
        pids = set()
        for _, pid, process, pool in group:
            label = alias if pool["name"] == alias else f"{alias} ({pool['name']})"
            yield (label, f"{pid} {process}", *_figures(pool))
            pools.append(pool)
            pids.add(pid)
        count = "1 process" if len(pids) == 1 else f"{len(pids)} processes"
        yield (alias, f"total of {count}", *_figures(total(pools)))


def _figures(pool: Pool) -> tuple[str, ...]:
    borrows, returns = pool["borrows"], pool["returns"]
    return (
        f"{pool['size']}/{pool['max_size']}",
        f"{pool['in_use']}",
        f"{pool['idle']}",
        f"{pool['waiting']}",
        f"{borrows}",
        _milliseconds(pool["wait_total"] / borrows) if borrows else "-",
        _milliseconds(pool["wait_max"]) if borrows else "-",
        _milliseconds(pool["held_total"] / returns) if returns else "-",
        _milliseconds(pool["held_max"]) if returns else "-",
        f"{pool['connects']}",
        f"{pool['connect_errors'] + pool['exhausted']}",
    )


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000
    # Three digits where they tell something: a borrow without a wait takes microseconds.
    if milliseconds < 1:
        return f"{milliseconds:.3f}"
    return f"{milliseconds:.1f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number < _TEXT_COLUMNS else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
