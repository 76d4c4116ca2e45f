"""Owns what a number of seconds in code may be."""

from __future__ import annotations

from typing import Any

_YEAR = 365 * 24 * 3600


def checked_seconds(value: Any, what: str, *, may_be_zero: bool = False) -> float:
    """Return `value` as seconds: more than 0 (or 0 where it may be), and at most a year.

    Raises `TypeError` or `ValueError`, which say what `what` needs.
    """
    least = "0 or more" if may_be_zero else "more than 0"
    wanted = f"{what} needs a number of seconds, {least} and at most {_YEAR} (a year)"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{wanted}, not a {type(value).__name__}")
    # A comparison that NaN fails, too.
    if not 0 <= value <= _YEAR or (value == 0 and not may_be_zero):
        raise ValueError(f"{wanted}, not {value!r}")
    return float(value)
