"""Builds check messages: the id sets the level, the hint links to the documentation."""

from __future__ import annotations

from django.core.checks import ERROR, INFO, WARNING, CheckMessage

_LEVELS = {"E": ERROR, "W": WARNING, "I": INFO}


def message(number: str, text: str, hint: str, alias: str | None = None) -> CheckMessage:
    """Return the message `pooled_pg.<number>` about `alias`, or (`None`) about the project."""
    return CheckMessage(
        _LEVELS[number[0]],
        text,
        # The anchor that a heading "pooled_pg.W001" gets.
        hint=f"{hint} See docs/checks.md#pooled_pg{number.lower()}.",
        obj=None if alias is None else f"DATABASES[{alias!r}]",
        id=f"pooled_pg.{number}",
    )
