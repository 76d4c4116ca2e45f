"""Renders pools, holders, server and advice as text or JSON; collects nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..pooling.counters import BOUNDS
from ..pooling.statistics import DURATIONS
from .advice import Advice
from .cells import (
    PERCENTILES,
    budget_sentence,
    by_alias,
    holder_rows,
    pool_cells,
    server_sentences,
    session_cells,
)
from .columns import aligned, milliseconds
from .figures import Pool, percentile
from .report import ProcessReport
from .server import ServerSide

_TIME_COLUMNS = (*(f"P{number}" for number in PERCENTILES), "MAX")
_NOT_IN_GROUPS = ("ALIAS", "PROCESS", "SIZE", "IN USE", "IDLE", "WAITING", "BORROWS")
_HEADER = (*_NOT_IN_GROUPS, *_TIME_COLUMNS, *_TIME_COLUMNS, "CONNECTS", "ERRORS")
_GROUPS = (*[""] * len(_NOT_IN_GROUPS), "WAIT", "", "", "", "HELD", "", "", "", "", "")
# The other counters: most are 0, and some should always be.
_EVENTS = {
    "exhausted": "exhausted",
    "connect_errors": "connects failed",
    "reclaimed": "reclaimed",
    "dead": "dead",
    "resets": "resets",
    "pinned": "pinned",
}
_STOPPED = {
    "abandoned_waiting": "abandoned while they waited",
    "abandoned_working": "abandoned at work",
    "deadlines": "past their deadline",
}
SINCE_START = "since each process started"


# Pools


def as_json(reports: Sequence[ProcessReport], database: str | None = None) -> list[dict[str, Any]]:
    """Return one object per process, for JSON; with `database`, pools of that alias only.

    Each has `pid` and either `error`, if the process didn't answer, or `parent_pid`,
    `process`, `started_epoch_seconds` and `pools`. Each pool has the fields of
    `PoolStatistics`; times end in `_seconds`. Those of `Durations` are flat:
    `wait_total_seconds`, `wait_max_seconds`, `wait_buckets`, `wait_p50_seconds`, `..._p95_...`
    and `..._p99_...` (`None` if nothing was measured), the same for `held` and `connect`; and
    `bucket_bounds_seconds`.
    """
    processes: list[dict[str, Any]] = []
    for report in reports:
        if report.snapshot is None:
            processes.append({"pid": report.pid, "error": report.error})
        elif pools := report.pools(database):
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


def _with_units(pool: Pool) -> Pool:
    shown: Pool = {}
    for key, value in pool.items():
        if key in DURATIONS:
            shown[f"{key}_total_seconds"] = value["total"]
            shown[f"{key}_max_seconds"] = value["max"]
            shown[f"{key}_buckets"] = value["buckets"]
            for number in PERCENTILES:
                shown[f"{key}_p{number}_seconds"] = percentile(value, number / 100)
        else:
            shown[f"{key}_seconds" if key in ("timeout", "worked_total") else key] = value
    return {**shown, "bucket_bounds_seconds": list(BOUNDS)}


def table(
    reports: Sequence[ProcessReport], database: str | None = None, period: str = SINCE_START
) -> str:
    """Return a table of all pools, by alias and process, with a total for each alias.

    With `database`, pools of that alias only. Times are in milliseconds; ERRORS counts failed
    attempts to connect and borrowers turned away. `period` names the time that counts and times
    cover. Processes that didn't answer come below. Empty if there is nothing to show.
    """
    blocks = []
    if found := by_alias(reports, database):
        rows: list[Sequence[str]] = [_HEADER]
        notes: list[str] = []
        for of in found:
            for pid, process, pool in of.members:
                name = "" if pool["name"] == of.alias else f" ({pool['name']})"
                label = f"{of.alias}{name}{_mark(pool)}"
                rows.append((label, f"{pid} {process}", *pool_cells(pool)))
            label = f"{of.alias}{_mark(of.sum)}"
            rows.append((label, f"total of {of.processes}", *pool_cells(of.sum)))
            notes += _events(of.alias, of.sum)
            if (budget := budget_sentence(of)) is not None:
                notes.append(budget)
        notes.append(f"Times are in milliseconds; counts and times {period}.")
        blocks.append("\n".join([aligned(rows, 2, _GROUPS), *notes]))
    silent = [f"Process {r.pid}: {r.error}" for r in reports if r.snapshot is None]
    if silent:
        blocks.append("\n".join(silent))
    return "\n\n".join(blocks)


def _mark(pool: Pool) -> str:
    return " PAUSED" if pool["paused"] else ""


def _events(alias: str, pool: Pool) -> Iterator[str]:
    said = [f"{pool[name]} {words}" for name, words in _EVENTS.items() if pool[name]]
    if returns := pool["returns"]:
        held, worked = pool["held"]["total"] / returns, pool["worked_total"] / returns
        said.append(
            f"held {milliseconds(held)} on average, of which statements took {milliseconds(worked)}"
        )
    if said:
        yield f"{alias}: {', '.join(said)}."
    stopped = [f"{pool[name]} {words}" for name, words in _STOPPED.items() if pool[name]]
    if stopped:
        yield f"{alias}: stopped: {', '.join(stopped)}."


def holders_table(holders: Sequence[dict[str, Any]]) -> str:
    """Return a table of what `longest_held` returned."""
    if not holders:
        return "No connection is held at this moment."
    columns, rows = holder_rows(holders)
    heads = ["ALIAS" if column == "pool" else column.upper() for column in columns]
    return "Held longest at this moment:\n" + aligned([heads, *rows], len(heads))


def server_text(side: ServerSide) -> str:
    """Return what the server reports about one alias: totals, a table, what is hidden."""
    first, *others = server_sentences(side)
    if side.sessions:
        heads = ["HOST", "APPLICATION", "STATE", "COUNT", "LONGEST", "LONGEST TRANSACTION"]
        others.insert(0, aligned([heads, *session_cells(side)], 3))
    return "\n".join([first, *others])


def advice_text(advice: Iterable[Advice]) -> str:
    """Return one line for each piece of advice, with its alias and rule."""
    lines = [f"{each.alias}: {each.text} [{each.rule}]" for each in advice]
    return "\n".join(["Advice:", *lines]) if lines else "Nothing to advise."
