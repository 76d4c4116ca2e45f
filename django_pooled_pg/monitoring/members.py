"""Owns how the pools of all processes are grouped for tables: by alias, then by process."""

from __future__ import annotations

from collections.abc import Sequence

from .figures import Pool
from .report import ProcessReport

Member = tuple[int, str, Pool]
"""A process' id and name, and a pool of it."""


def by_alias(
    reports: Sequence[ProcessReport], database: str | None = None
) -> dict[str, list[Member]]:
    """Return the pools of each alias, in order of aliases and process ids.

    With `database`, those of that alias only.
    """
    found: dict[str, list[Member]] = {}
    for report in sorted(reports, key=lambda report: report.pid):
        if report.snapshot is not None:
            for pool in report.pools(database):
                member = report.pid, report.snapshot["process"], pool
                found.setdefault(pool["alias"], []).append(member)
    return dict(sorted(found.items()))


def count_processes(members: Sequence[Member]) -> str:
    """Say how many processes these are of: `"1 process"`, `"2 processes"`."""
    number = len({pid for pid, *_ in members})
    return "1 process" if number == 1 else f"{number} processes"
