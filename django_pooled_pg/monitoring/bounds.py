"""Owns the bounds of what processes tell each other; knows nothing of what they tell."""

from __future__ import annotations

from typing import Any

from ..pooling.printable import printable

MAX_ANSWER_BYTES = 1024 * 1024
MAX_TEXT = 500  # characters


def bounded(value: Any) -> Any:
    """Return `value`, which is as JSON has it, with its texts printable and no longer than told.

    Names of threads, pools and places are anybody's: they must neither fill the answer nor reach
    a terminal or a page as they are.
    """
    if isinstance(value, str):
        return printable(value, MAX_TEXT)
    if isinstance(value, dict):
        return {key: bounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [bounded(each) for each in value]
    return value
