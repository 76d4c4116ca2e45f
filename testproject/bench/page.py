"""Puts the figures into the documentation, between the page's two marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Case, median, ratio, values
from .targets import Verdict

START, END = "<!-- figures -->", "<!-- /figures -->"


def fill(path: Path, text: str) -> None:
    """Put the text between the page's marks."""
    before, _, rest = path.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path.name} has no place marked with {START} and {END}")
    path.write_text(f"{before}{START}\n{text}\n{END}{after}")


def markdown(
    cases: Sequence[Case],
    found: Sequence[Verdict],
    labels: Mapping[str, str],
    facts: Mapping[str, Any],
) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    parts = [
        f"{facts['cpus']} CPUs ({facts['architecture']}), Python {facts['python']}, PostgreSQL"
        f" {facts['postgresql']}, {versions}.",
        "",
        "| Target | Figure | Limit | |",
        "|---|---|---|---|",
    ]
    for verdict in found:
        figure = "" if verdict.figure is None else f"{verdict.figure:.2f}"
        word = {True: "met", False: "**not met**", None: "not measured"}[verdict.met]
        sign = {"<=": "≤", ">=": "≥"}[verdict.comparison]
        parts.append(f"| {_cell(verdict.target)} | {figure} | {sign} {verdict.limit:g} | {word} |")
    for measure in dict.fromkeys(case.measure for case in cases):
        # Collapsed: few readers want all of them.
        parts += ["", f"<details><summary>{measure}</summary>"]
        for case in cases:
            if case.measure == measure:
                parts += ["", f"**{case.name}**", "", *_table(case, labels)]
        parts += ["", "</details>"]
    return "\n".join(parts)


def _table(case: Case, labels: Mapping[str, str]) -> list[str]:
    if not case.outcomes:
        return [case.note]
    shown = [f for f in case.figures if any(values(case, key, f.key) for key in case.outcomes)]
    lines = [case.note, ""] if case.note else []
    lines += ["| | " + " | ".join(figure.label for figure in shown) + " |"]
    lines += ["|---|" + "---:|" * len(shown)]
    errors = []
    for key, outcome in case.outcomes.items():
        if outcome.error:
            errors += ["", f"{_cell(labels[key])} doesn't run here: {_cell(outcome.error)}"]
            continue
        cells = [_figure(case, key, figure.key, figure.digits, figure.ratio) for figure in shown]
        lines.append(f"| {_cell(labels[key])} | " + " | ".join(cells) + " |")
    return lines + errors


def _figure(case: Case, contestant: str, key: str, digits: int, with_ratio: bool) -> str:
    middle = median(case, contestant, key)
    if middle is None:
        return ""
    times = ratio(case, key, contestant, case.reference) if with_ratio else None
    return f"{middle:.{digits}f}" + (f" ({times.median:.2f}x)" if times else "")


def _cell(text: str) -> str:
    # An engine's error may hold anything.
    return re.sub(r"([|<>\[\]*_`])", r"\\\1", text)
