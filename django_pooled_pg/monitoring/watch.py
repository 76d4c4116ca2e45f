"""Looks repeatedly: computes what changed between two looks, and shows it until Ctrl-C.

Must not know what it shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from .figures import Pool, since
from .report import ProcessReport

_CLEAR = "\x1b[H\x1b[2J"


def between(before: Sequence[ProcessReport], now: Sequence[ProcessReport]) -> list[ProcessReport]:
    """Return the reports of `now`, with the figures of what happened since `before`.

    For a process that is new, figures run from its start; see `figures.since`.
    """
    known = {key: pool for report in before for key, pool in _pools(report)}
    changed = []
    for report in now:
        if report.snapshot is not None:
            pools = [since(known.get(key), pool) for key, pool in _pools(report)]
            snapshot = {**report.snapshot, "pools": pools}
            report = ProcessReport(pid=report.pid, snapshot=snapshot)
        changed.append(report)
    return changed


def _pools(report: ProcessReport) -> list[tuple[tuple[Any, ...], Pool]]:
    # A later process may reuse an id, and a pool with other settings the same name.
    process = (report.pid, (report.snapshot or {}).get("started"))
    seen: dict[tuple[Any, ...], int] = {}
    pools = []
    for pool in report.pools():
        name = (pool["alias"], pool["name"])
        seen[name] = seen.get(name, 0) + 1
        pools.append(((*process, *name, seen[name]), pool))
    return pools


def watch(look: Callable[[], str], out: TextIO, seconds: float) -> None:
    """Show what `look` returns, anew every `seconds`, until Ctrl-C.

    On a terminal, each look replaces the one before, and the last stays. Elsewhere each follows
    the one before. Raises what `look` raises, and `BrokenPipeError` when nobody reads.
    """
    before, after = (_CLEAR, "\n") if out.isatty() else ("", "\n\n")
    try:
        while True:
            out.write(f"{before}{look()}{after}")
            out.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        pass  # the way to leave
