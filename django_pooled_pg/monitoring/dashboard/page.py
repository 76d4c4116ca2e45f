"""Owns the page as it is without JavaScript: what a view says, as text in tables.

`static/dashboard.js` writes the same cells anew; whoever changes a column changes it there, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.template import Context, Engine

from ..figures import Pool, percentile, total
from ..members import by_alias, count_processes
from .data import View

_NONE = "-"


def render(view: View | None, error: str = "") -> str:
    """Return the page with `view`, or with the `error` why there is none."""
    shown = _shown(view) if view is not None else {}
    return _engine().get_template("dashboard.html").render(Context({**shown, "error": error}))


@cache
def _engine() -> Engine:
    # Of its own: it works whatever TEMPLATES says. (What is shown is escaped by `Context`.)
    return Engine(dirs=[str(Path(__file__).with_name("templates"))])


def _shown(view: View) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(view.time, UTC),
        "advice": view.advice,
        "pools": _pools(view),
        "silent": [report for report in view.reports if report.snapshot is None],
        "holders": [_holder(holder) for holder in view.holders()],
        "server_errors": [side for side in view.server.values() if side.error is not None],
        "server": [
            [
                side.alias,
                f"{side.ours}",
                f"{side.allowed}",
                f"{side.total}",
                f"{side.max_connections}",
                f"{side.idle_in_transaction}",
                _seconds(side.longest_idle_in_transaction),
                _seconds(side.longest_transaction),
                side.version,
            ]
            for side in view.server.values()
            if side.error is None
        ],
        "sessions": [
            [
                side.alias,
                group.host,
                group.application_name,
                group.state,
                f"{group.count}",
                _seconds(group.longest_in_state),
                _seconds(group.longest_transaction),
            ]
            for side in view.server.values()
            for group in side.sessions
        ],
    }


def _pools(view: View) -> list[dict[str, Any]]:
    shown = []
    for alias, members in by_alias(view.reports).items():
        summed = total([pool for *_, pool in members])
        shown.append(
            {
                "alias": alias,
                "paused": summed["paused"],
                "figures": summed,
                "processes": count_processes(members),
                "rows": [[_label(*member), *_figures(member[-1])] for member in members],
                "totals": [["All", *_figures(summed)]],
            }
        )
    return shown


def _label(pid: int, process: str, pool: Pool) -> str:
    name = "" if pool["name"] == pool["alias"] else f" ({pool['name']})"
    return f"{pid} {process}{name}{', paused' if pool['paused'] else ''}"


def _figures(pool: Pool) -> list[str]:
    return [
        f"{pool['size']}/{pool['max_size']}",
        *(f"{pool[name]}" for name in ("in_use", "idle", "waiting", "borrows")),
        *_times(pool, "wait"),
        *_times(pool, "held"),
        f"{pool['connects']}",
        f"{pool['connect_errors'] + pool['exhausted']}",
    ]


def _times(pool: Pool, kind: str) -> list[str]:
    buckets, longest = pool[f"{kind}_buckets"], pool[f"{kind}_max"]
    if not any(buckets):
        return [_NONE] * 3
    return [_milliseconds(percentile(buckets, part, longest)) for part in (0.5, 0.95, 1.0)]


def _holder(holder: dict[str, Any]) -> list[str]:
    pool = holder["alias"]
    if holder["name"] != pool:
        pool += f" ({holder['name']})"
    return [
        pool,
        f"{holder['pid']} {holder['process']}",
        holder["thread"],
        _seconds(holder["held"]),
        holder["pinned"] or _NONE,
        holder["place"],
    ]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    milliseconds = seconds * 1000
    return f"{milliseconds:.3f}" if milliseconds < 1 else f"{milliseconds:.1f}"


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:.1f}"
