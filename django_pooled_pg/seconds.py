"""Validates a number of seconds that code gives."""

from __future__ import annotations

from typing import Any

_YEAR = 365 * 24 * 3600


def checked_seconds(value: Any, what: str, *, may_be_zero: bool = False) -> float:
    """Return `value` as seconds: more than 0 (or 0 if `may_be_zero`), and at most a year.

    Raises `TypeError` or `ValueError`; their message begins with `what`.
    """
    least = "0 or more" if may_be_zero else "more than 0"
    wanted = f"{what} needs a number of seconds, {least} and at most {_YEAR} (a year)"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{wanted}, not a {type(value).__name__}")
    # NaN fails this comparison, too.
    if not 0 <= value <= _YEAR or (value == 0 and not may_be_zero):
        raise ValueError(f"{wanted}, not {value!r}")
    return float(value)
