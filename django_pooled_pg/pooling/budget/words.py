"""Describes who has the slots of a budget."""

from __future__ import annotations

from collections.abc import Sequence

from ..printable import printable
from .records import Record
from .sharing import limit_of

# How many members are named.
_MOST_SHOWN = 8


def holders_said(shown: str, members: Sequence[Record]) -> str:
    """Say who has the slots, most first; `shown` names the budget. Empty without members."""
    if not members:
        return ""
    holders = [
        f"{printable(each.process) or 'a process'} ({each.pid}) has {each.held}"
        for each in sorted(members, key=lambda each: -each.held)
        if each.held
    ]
    more = len(holders) - _MOST_SHOWN
    said = ", ".join(holders[:_MOST_SHOWN]) or "nobody has one"
    wanting = sum(bool(each.wanted) for each in members)
    return (
        f"Of the {limit_of(members)} connections of the {shown}, "
        f"{said}{f', and {more} more have some' if more > 0 else ''}; {wanting} processes want more."
    )
