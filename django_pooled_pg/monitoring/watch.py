"""Owns looking again and again: what changed between two looks, and showing it until Ctrl-C.

Uses rich where it is installed. Must not know what is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TextIO

from .figures import Pool, since
from .report import ProcessReport

_CLEAR = "\x1b[H\x1b[2J"


def between(before: Sequence[ProcessReport], now: Sequence[ProcessReport]) -> list[ProcessReport]:
    """Return the reports of `now`, with figures of what happened since those of `before`.

    Those of a process that wasn't there yet run from its start; see `figures.since`.
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
    if report.snapshot is None:
        return []
    # A later process may have the same id; a pool of other settings the same name.
    process = (report.pid, report.snapshot.get("started"))
    seen: dict[tuple[Any, ...], int] = {}
    pools = []
    for pool in report.snapshot["pools"]:
        name = (pool["alias"], pool["name"])
        seen[name] = seen.get(name, 0) + 1
        pools.append(((*process, *name, seen[name]), pool))
    return pools


def watch(look: Callable[[], str], out: TextIO, seconds: float) -> None:
    """Show what `look` returns, anew every `seconds`, until Ctrl-C.

    On a terminal it takes the place of what was there; what was shown last stays. Elsewhere one
    comes after the other. Raises what `look` raises, and `BrokenPipeError` when nobody reads.
    """
    try:
        if not out.isatty():
            _one_after_the_other(look, out, seconds)
        elif find_spec("rich") is not None:
            _with_rich(look, out, seconds)
        else:
            _clearing(look, out, seconds)
    except KeyboardInterrupt:
        pass  # that is how one leaves


def _one_after_the_other(look: Callable[[], str], out: TextIO, seconds: float) -> None:
    while True:
        out.write(f"{look()}\n\n")
        out.flush()
        time.sleep(seconds)


def _clearing(look: Callable[[], str], out: TextIO, seconds: float) -> None:
    while True:
        out.write(f"{_CLEAR}{look()}\n")
        out.flush()
        time.sleep(seconds)


def _with_rich(look: Callable[[], str], out: TextIO, seconds: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    shown = look()
    try:
        # No thread of its own: it draws when there is something new.
        with Live(console=Console(file=out), screen=True, auto_refresh=False) as live:
            while True:
                live.update(Text(shown, no_wrap=True, overflow="crop"), refresh=True)
                time.sleep(seconds)
                shown = look()
    finally:
        out.write(f"{shown}\n")
