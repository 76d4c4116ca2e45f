"""Draws the picture: a panel of bars for each question that most readers have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .contestants import CONNECT
from .figures import Case, spread, values
from .plan import ONE_QUERY, THREADS

# Measure, the start of the case's name, figure, title.
PANELS = (
    ("request", ONE_QUERY, "cpu_us", "One small request: CPU, us (less is better)"),
    ("throughput", THREADS, "rate", f"{THREADS}: requests/s (more is better)"),
    ("throughput", THREADS, "wait_p99_ms", f"{THREADS}: p99 of the wait, ms (less is better)"),
    ("slow", "", "rate", "Slow calls on 4 connections: requests/s (more is better)"),
)
OURS, OTHERS = "#1b7837", "#9aa5b1"


class NoMatplotlib(Exception):
    """There is nothing to draw with."""


def draw(cases: Sequence[Case], labels: Mapping[str, str], path: Path) -> None:
    """Write the SVG: medians as bars, with their quartiles."""
    try:
        import matplotlib
    except ImportError as ex:
        raise NoMatplotlib from ex
    matplotlib.use("svg")
    # The same figures make the same file; text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none"})
    from matplotlib import pyplot

    panels = []
    for measure, start, figure, title in PANELS:
        for case in cases:
            if case.measure == measure and case.name.startswith(start):
                # Connecting for each request is so far off that the others would look the same.
                keys = [k for k in case.outcomes if k != CONNECT.key and values(case, k, figure)]
                if keys:
                    panels.append((case, figure, title, keys))
    if not panels:
        return
    heights = [len(keys) + 1 for *_, keys in panels]
    drawing, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, 0.2 * sum(heights) + 0.5 * len(panels)), squeeze=False,
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for (case, figure, title, keys), axis in zip(panels, axes[:, 0], strict=True):
        spreads = [spread(values(case, key, figure)) for key in keys]
        medians = [each.median for each in spreads]
        errors = [
            [each.median - each.low for each in spreads],
            [each.high - each.median for each in spreads],
        ]
        colours = [OURS if key.startswith("ours") else OTHERS for key in keys]
        names = [labels[key] for key in keys]
        axis.barh(names, medians, xerr=errors, color=colours, ecolor="#444444", capsize=2)
        axis.set_title(title, loc="left", fontsize=10)
        axis.invert_yaxis()
        axis.margins(y=0.02)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)
