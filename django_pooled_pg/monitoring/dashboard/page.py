"""Renders the page: a view as HTML. Attributes `data-...` hold what its script plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.template import Context, Engine

from ...pooling.counters import BOUNDS
from ..cells import (
    OfAlias,
    budget_sentence,
    by_alias,
    holder_rows,
    longest_held,
    pool_cells,
    server_sentences,
    session_cells,
)
from ..report import ProcessReport
from .data import View

_HOLDERS_SHOWN = 20


def render(view: View | None, error: str = "") -> str:
    """Return the page with `view`, or with the `error` that says why there is none."""
    shown = _shown(view) if view is not None else {}
    return _engine().get_template("dashboard.html").render(Context({**shown, "error": error}))


@cache
def _engine() -> Engine:
    # An engine of its own works whatever TEMPLATES says. (`Context` escapes what is shown.)
    return Engine(dirs=[str(Path(__file__).with_name("templates"))])


def _shown(view: View) -> dict[str, Any]:
    sides = view.server.values()
    columns, holders = holder_rows(longest_held(view.reports, _HOLDERS_SHOWN))
    return {
        "seconds": json.dumps(view.time),
        "time": datetime.fromtimestamp(view.time, UTC),
        "bounds": json.dumps(BOUNDS),
        "advice": view.advice,
        "pools": [_pools(of, view.reports) for of in by_alias(view.reports)],
        "silent": [report for report in view.reports if report.snapshot is None],
        "holder_columns": columns,
        "holders": holders,
        "server": [(side.error, server_sentences(side)) for side in sides],
        "sessions": [[side.alias, *cells] for side in sides for cells in session_cells(side)],
    }


def _pools(of: OfAlias, reports: Sequence[ProcessReport]) -> dict[str, Any]:
    started = {report.pid: report.snapshot["started"] for report in reports if report.snapshot}
    rows, plotted = [], []
    for pid, process, pool in of.members:
        name = "" if pool["name"] == of.alias else f" ({pool['name']})"
        paused = ", paused" if pool["paused"] else ""
        rows.append([f"{pid} {process}{name}{paused}", *pool_cells(pool)])
        key = f"{pid} {started[pid]} {pool['name']}"
        figures = {figure: pool[figure] for figure in ("borrows", "wait", "held")}
        plotted.append({"key": key, "started": started[pid], **figures})
    return {
        "of": of,
        "abandoned": of.sum["abandoned_waiting"] + of.sum["abandoned_working"],
        "rows": rows,
        "budget": budget_sentence(of),
        "totals": [["All", *pool_cells(of.sum)]],
        "plotted": json.dumps(plotted, separators=(",", ":")),
    }
