"""Formats columns and durations as plain text; knows nothing of pools."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], text_columns: int, groups: Sequence[str] = ()) -> str:
    """Return the rows as lines; left-aligned in the first `text_columns`, right-aligned in others.

    `groups` has a heading or `""` for each column: a heading stands above its column and those
    that follow.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number < text_columns else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(GAP.join(cells).rstrip())
    if groups:
        lines.insert(0, _heading(groups, rows[0], widths))
    return "\n".join(lines)


def _heading(groups: Sequence[str], names: Sequence[str], widths: Sequence[int]) -> str:
    heading, end = "", 0
    for group, name, width in zip(groups, names, widths, strict=True):
        if group:
            heading = heading.ljust(end + width - len(name)) + group
        end += width + len(GAP)
    return heading


def milliseconds(seconds: float | None) -> str:
    """Write a duration in milliseconds, without the unit; `"-"` for `None`."""
    if seconds is None:
        return "-"
    number = seconds * 1000
    # Three digits where they matter: a borrow without a wait takes microseconds.
    if number < 1:
        return f"{number:.3f}"
    return f"{number:.1f}" if number < 100 else f"{number:.0f}"


def duration(seconds: float) -> str:
    """Write a duration with its unit: `"0.2 ms"`, `"85 ms"`, `"2.5 s"`, `"130 s"`."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
