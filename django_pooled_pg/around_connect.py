"""Owns what others put around connecting: it goes around a borrow, too.

Sentry and others replace Django's `connect()` by a function that calls Django's in its midst, and
may have done so before this package is imported. From there only Django's own function can lead to
us, so that is what it does, once there is something around it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.asyncio import async_unsafe

# What async_unsafe() makes has the same code for each function, and that function in a cell.
_ASYNC_UNSAFE = cast(FunctionType, async_unsafe(lambda: None)).__code__
_CELL = _ASYNC_UNSAFE.co_freevars.index("func")


def is_djangos(function: Any) -> bool:
    """Tell whether a method of Django's wrapper is Django's own, with nothing around it."""
    # Not by its name or module: what is around it may have copied them.
    return type(function) is FunctionType and function.__code__ is _ASYNC_UNSAFE


djangos_connect: Any = inspect.unwrap(BaseDatabaseWrapper.connect, stop=is_djangos)
"""Django's `connect()`, without what was around it by now."""


def lead_to(ours: Callable[[Any], bool]) -> bool:
    """Let Django's `connect(self)` ask `ours(self)` first: True means that it has connected.

    Return whether that could be done: not if what is around Django's function hid it from us.
    """
    if not is_djangos(djangos_connect):
        return False
    cell = djangos_connect.__closure__[_CELL]
    if cell.cell_contents.__module__ != __name__:
        cell.cell_contents = _asking(ours, cell.cell_contents)
    return True


def _asking(ours: Callable[[Any], bool], djangos: Callable[[Any], None]) -> Any:
    def connect(self: Any) -> None:
        if not ours(self):
            djangos(self)

    return connect
