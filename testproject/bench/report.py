"""Formats figures as plain text; prints nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .figures import Case, median, ratio, values


def table(case: Case, labels: Mapping[str, str]) -> str:
    """Return a case's medians, one contestant per line, with ratios to the reference's figures."""
    lines = [f"{case.measure}: {case.name}"]
    if case.note:
        lines.append(f"  {case.note}")
    shown = [f for f in case.figures if any(values(case, key, f.key) for key in case.outcomes)]
    # A contestant that works alone is compared with nobody.
    ratios = [f for f in shown if f.ratio and values(case, case.reference, f.key)]
    head, rows = [""], []
    for figure in shown:
        head += [figure.label, "x", "quartiles"] if figure in ratios else [figure.label]
    for key, outcome in case.outcomes.items():
        row = [labels[key]]
        if outcome.error:
            rows.append([*row, f"doesn't run here: {outcome.error}"])
            continue
        for figure in shown:
            middle = median(case, key, figure.key)
            row.append("" if middle is None else f"{middle:.{figure.digits}f}")
            if figure in ratios:
                times = ratio(case, figure.key, key, case.reference)
                row.append("" if times is None else f"{times.median:.2f}")
                row.append("" if times is None else f"{times.low:.2f}-{times.high:.2f}")
        rows.append(row)
    return "\n".join([*lines, *columns(head, rows)])


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines; a row shorter than the head holds a text in place of figures."""
    full = [row for row in (head, *rows) if len(row) == len(head)]
    widths = [max(len(row[i]) for row in full) for i in range(len(head))]
    widths[0] = max(len(row[0]) for row in (head, *rows))
    lines = []
    for row in (head, *rows):
        cells = row[1:]
        if len(row) == len(head):
            cells = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(["", f"{row[0]:{widths[0]}}", *cells]).rstrip())
    return lines
