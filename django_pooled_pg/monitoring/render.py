"""Owns how pools, holders, server and advice are shown as text or JSON; asks nobody itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from ..pooling.statistics import BOUNDS
from .advice import Advice
from .columns import aligned, duration, milliseconds
from .figures import Pool, percentile, total
from .members import Member, by_alias, count_processes
from .report import ProcessReport
from .server import ServerSide

_PERCENTILES = (50, 95, 99)
_TIME_COLUMNS = (*(f"P{number}" for number in _PERCENTILES), "MAX")
_NOT_IN_GROUPS = ("ALIAS", "PROCESS", "SIZE", "IN USE", "IDLE", "WAITING", "BORROWS")
_HEADER = (*_NOT_IN_GROUPS, *_TIME_COLUMNS, *_TIME_COLUMNS, "CONNECTS", "ERRORS")
_GROUPS = (*[""] * len(_NOT_IN_GROUPS), "WAIT", "", "", "", "HELD", "", "", "", "", "")
# The rest of the counters: most are 0, and some never should be anything else.
_EVENTS = {
    "exhausted": "exhausted",
    "connect_errors": "connects failed",
    "reclaimed": "reclaimed",
    "dead": "dead",
    "resets": "resets",
    "pinned": "pinned",
}
_TIMES = (
    *("timeout", "worked_total"),
    *("wait_total", "wait_max", "held_total", "held_max", "connect_total", "connect_max"),
)
SINCE_START = "since each process started"


# Pools


def as_json(reports: Sequence[ProcessReport], database: str | None = None) -> list[dict[str, Any]]:
    """Return one object per process, for JSON; with `database`, pools of that alias only.

    Each has `pid` and either `error`, for a process that didn't answer, or `parent_pid`,
    `process`, `started_epoch_seconds` and `pools`. Each pool has the fields of
    `PoolStatistics`, with `wait_total_seconds` and the like for times, then
    `wait_p50_seconds`, `..._p95_...` and `..._p99_...`, the same for `held` and `connect`
    (`None` where nothing was measured), and `bucket_bounds_seconds`.
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


def table(
    reports: Sequence[ProcessReport], database: str | None = None, period: str = SINCE_START
) -> str:
    """Return a table of all pools, by alias and process, with a total for each alias.

    With `database`, pools of that alias only. Times are in milliseconds; ERRORS counts failed
    attempts to connect and borrowers turned away. `period` says what the counts and times are
    of. Processes that didn't answer come below. Empty when there is nothing to show.
    """
    blocks = []
    found = by_alias(reports, database)
    if found:
        rows: list[Sequence[str]] = [_HEADER]
        notes: list[str] = []
        for alias, members in found.items():
            added = total([pool for *_, pool in members])
            rows += _rows(alias, members, added)
            notes += _events(alias, added)
        notes.append(f"Times are in milliseconds; counts and times {period}.")
        blocks.append("\n".join([aligned(rows, 2, _GROUPS), *notes]))
    silent = [f"Process {r.pid}: {r.error}" for r in reports if r.snapshot is None]
    if silent:
        blocks.append("\n".join(silent))
    return "\n\n".join(blocks)


def _with_units(pool: Pool) -> Pool:
    shown = {f"{key}_seconds" if key in _TIMES else key: value for key, value in pool.items()}
    for of in ("wait", "held", "connect"):
        for number, value in zip(_PERCENTILES, _percentiles(pool, of), strict=True):
            shown[f"{of}_p{number}_seconds"] = value
    return {**shown, "bucket_bounds_seconds": list(BOUNDS)}


def _percentiles(pool: Pool, of: str) -> list[float | None]:
    buckets, longest = pool[f"{of}_buckets"], pool[f"{of}_max"]
    return [percentile(buckets, number / 100, longest) for number in _PERCENTILES]


def _rows(alias: str, members: Sequence[Member], added: Pool) -> Iterator[Sequence[str]]:
    for pid, process, pool in members:
        label = alias if pool["name"] == alias else f"{alias} ({pool['name']})"
        yield (_marked(label, pool), f"{pid} {process}", *_figures(pool))
    yield (_marked(alias, added), f"total of {count_processes(members)}", *_figures(added))


def _marked(label: str, pool: Pool) -> str:
    return f"{label} PAUSED" if pool["paused"] else label


def _figures(pool: Pool) -> Iterator[str]:
    yield f"{pool['size']}/{pool['max_size']}"
    for name in ("in_use", "idle", "waiting", "borrows"):
        yield f"{pool[name]}"
    for of in ("wait", "held"):
        yield from map(milliseconds, _percentiles(pool, of))
        yield milliseconds(pool[f"{of}_max"] if any(pool[f"{of}_buckets"]) else None)
    yield f"{pool['connects']}"
    yield f"{pool['connect_errors'] + pool['exhausted']}"


def _events(alias: str, pool: Pool) -> Iterator[str]:
    said = [f"{pool[name]} {words}" for name, words in _EVENTS.items() if pool[name]]
    if returns := pool["returns"]:
        held, worked = pool["held_total"] / returns, pool["worked_total"] / returns
        said.append(
            f"held {milliseconds(held)} on average, of which the database worked "
            f"{milliseconds(worked)}"
        )
    if said:
        yield f"{alias}: {', '.join(said)}."


# Holders


def longest_held(
    reports: Sequence[ProcessReport], number: int, database: str | None = None
) -> list[dict[str, Any]]:
    """Return the `number` leases that are open longest, over all processes, for JSON.

    Each has what a snapshot's `holders` have, with `held_seconds`, and its `pid`.
    """
    found = [holder for report in reports for holder in report.holders(database)]
    found.sort(key=itemgetter("held"), reverse=True)
    return [
        {f"{k}_seconds" if k == "held" else k: v for k, v in holder.items()}
        for holder in found[:number]
    ]


def holders_table(holders: Sequence[dict[str, Any]]) -> str:
    """Return a table of what `longest_held` returned."""
    if not holders:
        return "No connection is held at this moment."
    rows = [("ALIAS", "PROCESS", "THREAD", "PINNED BY", "HELD", "PLACE")]
    for holder in holders:
        rows.append(
            (
                holder["alias"],
                f"{holder['pid']}",
                holder["thread"],
                holder["pinned"] or "-",
                duration(holder["held_seconds"]),
                holder["place"].removeprefix("at "),
            )
        )
    return "Held longest at this moment:\n" + aligned(rows, 6)


# Server


def server_text(side: ServerSide) -> str:
    """Return what the server says about one alias: a line of totals, a table, what is hidden."""
    if side.error is not None:
        return f"Server of {side.alias}: can't be asked: {side.error}"
    limits = [f"max_connections {side.max_connections} less {side.reserved} reserved"]
    if side.role_limit is not None:
        limits.append(f"{side.role_limit} for this role")
    if side.database_limit is not None:
        limits.append(f"{side.database_limit} for this database")
    lines = [
        f"Server of {side.alias} (PostgreSQL {side.version}): {side.ours} connections of this "
        f"project, {side.total - side.ours} others, {side.allowed} allowed ({', '.join(limits)})."
    ]
    if side.sessions:
        rows = [("HOST", "APPLICATION", "STATE", "COUNT", "LONGEST", "LONGEST TRANSACTION")]
        for group in side.sessions:
            rows.append(
                (
                    group.host,
                    group.application_name or "-",
                    group.state,
                    f"{group.count}",
                    _duration_or_dash(group.longest_in_state),
                    _duration_or_dash(group.longest_transaction),
                )
            )
        lines.append(aligned(rows, 3))
    lines.append(
        f"Idle in transaction: {side.idle_in_transaction}, longest "
        f"{_duration_or_dash(side.longest_idle_in_transaction)}; longest transaction: "
        f"{_duration_or_dash(side.longest_transaction)}."
    )
    if side.hidden:
        lines.append(
            f"Hidden: what {side.hidden} of the others are and do, since this role is no member "
            "of pg_monitor; some may be workers of a query, which are no connections."
        )
    return "\n".join(lines)


def _duration_or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


# Advice


def advice_text(advice: Iterable[Advice]) -> str:
    """Return one paragraph for each advice, with its alias and rule."""
    lines = [f"{each.alias}: {each.text} [{each.rule}]" for each in advice]
    return "\n".join(["Advice:", *lines]) if lines else "Nothing to advise."
