"""Waiting for conditions in tests, in place of sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], within: float = 5.0, message: str = "") -> T:
    """Return what `predicate` returns once it is true; fail when that takes too long."""
    deadline = time.monotonic() + within
    while True:
        if result := predicate():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(message or f"not so within {within:g} s: {predicate}")
        time.sleep(0.005)
