"""Builds table cells and sentences from figures; the terminal and the page lay them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from .columns import duration, milliseconds
from .figures import Pool, percentile, total
from .report import ProcessReport
from .server import ServerSide

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class OfAlias:
    """The pools of one alias, each with its process's id and name, and their sum."""

    alias: str
    members: list[tuple[int, str, Pool]]
    sum: Pool

    @property
    def processes(self) -> str:
        """How many processes they belong to: `"1 process"`, `"2 processes"`."""
        number = len({pid for pid, *_ in self.members})
        return "1 process" if number == 1 else f"{number} processes"


def by_alias(reports: Sequence[ProcessReport], database: str | None = None) -> list[OfAlias]:
    """Return the pools of each alias, ordered by alias and process id.

    With `database`, those of that alias only.
    """
    found: dict[str, list[tuple[int, str, Pool]]] = {}
    for report in sorted(reports, key=lambda report: report.pid):
        if report.snapshot is not None:
            for pool in report.pools(database):
                member = report.pid, report.snapshot["process"], pool
                found.setdefault(pool["alias"], []).append(member)
    return [
        OfAlias(alias, members, total([pool for *_, pool in members]))
        for alias, members in sorted(found.items())
    ]


def pool_cells(pool: Pool) -> list[str]:
    """Return size, in use, idle, waiting, borrows, wait and held (`PERCENTILES` and the longest,
    in milliseconds), connects, errors.
    """
    return [
        f"{pool['size']}/{pool['max_size']}",
        *(f"{pool[name]}" for name in ("in_use", "idle", "waiting", "borrows")),
        *(
            milliseconds(percentile(pool[of], number / 100))
            for of in ("wait", "held")
            for number in (*PERCENTILES, 100)
        ),
        f"{pool['connects']}",
        f"{pool['connect_errors'] + pool['exhausted']}",
    ]


def budget_sentence(of: OfAlias) -> str | None:
    """Say who has the slots of the budget, and who wants more; `None` without a budget."""
    if not of.sum["budget"]:
        return None
    holders = [
        f"{pid} {process} has {pool['slots']}"
        + (f" and wants {pool['slots_wanted']} more" if pool["slots_wanted"] else "")
        for pid, process, pool in of.members
    ]
    return (
        f"{of.alias}: of a budget of {of.sum['budget']}, {', '.join(holders)}; "
        f"{of.sum['slots_given']} given up to others."
    )


def longest_held(
    reports: Sequence[ProcessReport], number: int, database: str | None = None
) -> list[dict[str, Any]]:
    """Return the `number` leases that have been held longest, over all processes, for JSON.

    Each has the keys of a snapshot's `holders`, but with `held_seconds` and `remaining_seconds`,
    and its `pid` and `process`.
    """
    found = [holder for report in reports for holder in report.holders(database)]
    found.sort(key=itemgetter("held"), reverse=True)
    return [
        {f"{k}_seconds" if k in ("held", "remaining") else k: v for k, v in holder.items()}
        for holder in found[:number]
    ]


HOLDER_COLUMNS = ("pool", "process", "thread", "pinned by", "work", "held", "place")


def holder_rows(holders: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return columns from `HOLDER_COLUMNS`, and rows, for what `longest_held` returns.

    `work` is left out if it is empty everywhere: most holders have neither a deadline nor a client
    that is watched.
    """
    rows = [_holder_cells(holder) for holder in holders]
    work = HOLDER_COLUMNS.index("work")
    if any(row[work] != "-" for row in rows):
        return [*HOLDER_COLUMNS], rows
    return [each for each in HOLDER_COLUMNS if each != "work"], [
        [*row[:work], *row[work + 1 :]] for row in rows
    ]


def _holder_cells(holder: dict[str, Any]) -> list[str]:
    name = "" if holder["name"] == holder["alias"] else f" ({holder['name']})"
    return [
        f"{holder['alias']}{name}",
        f"{holder['pid']} {holder['process']}",
        holder["thread"],
        holder["pinned"] or "-",
        _work(holder),
        duration(holder["held_seconds"]),
        holder["place"].removeprefix("at "),
    ]


def _work(holder: dict[str, Any]) -> str:
    if holder["abandoned"]:
        return "abandoned"
    remaining = holder["remaining_seconds"]
    if remaining is None:
        return "-"
    return f"{duration(remaining)} left" if remaining else "past its deadline"


def session_cells(side: ServerSide) -> list[list[str]]:
    """Return host, application, state, count, longest, transaction for each group of sessions."""
    return [
        [
            group.host,
            group.application_name or "-",
            group.state,
            f"{group.count}",
            _duration_or_dash(group.longest_in_state),
            _duration_or_dash(group.longest_transaction),
        ]
        for group in side.sessions
    ]


def server_sentences(side: ServerSide) -> Iterator[str]:
    """Say what the server reports about one alias, or why it can't be asked."""
    if side.error is not None:
        yield f"Server of {side.alias}: can't be asked: {side.error}"
        return
    limits = [f"max_connections {side.max_connections} less {side.reserved} reserved"]
    if side.role_limit is not None:
        limits.append(f"{side.role_limit} for this role")
    if side.database_limit is not None:
        limits.append(f"{side.database_limit} for this database")
    yield (
        f"Server of {side.alias} (PostgreSQL {side.version}): {side.ours} connections of this "
        f"project, {side.total - side.ours} others, {side.allowed} allowed ({', '.join(limits)})."
    )
    yield (
        f"Idle in transaction: {side.idle_in_transaction}, longest "
        f"{_duration_or_dash(side.longest_idle_in_transaction)}; longest transaction: "
        f"{_duration_or_dash(side.longest_transaction)}."
    )
    if side.hidden:
        yield (
            f"Hidden: what {side.hidden} of the others are and do, because this role isn't in "
            "pg_monitor; some may be parallel workers, which aren't connections."
        )


def _duration_or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
