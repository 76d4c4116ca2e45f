"""Owns what others put around connecting: it goes around a borrow, too.

Sentry and others replace Django's `connect()` by a function that calls Django's in its midst, and
may have done so before this package is imported. From there only Django's own function can lead to
us, so that is what it does, once there is something around it.

It takes a look inside of Django's `async_unsafe()`. Should that change, all else goes on, and what
is around Django's function sees no borrows.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from types import FunctionType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger(__name__)


def _inside_async_unsafe() -> tuple[Any, int]:
    # What async_unsafe() makes has the same code for each function, and that function in a cell.
    try:
        from django.utils.asyncio import async_unsafe

        made: Any = async_unsafe(lambda: None)
        return made.__code__, made.__code__.co_freevars.index("func")
    except Exception as ex:  # whatever it has become: we can do without
        logger.debug("Django's async_unsafe() is another than it was: %r", ex)
        return None, 0


_async_unsafe, _cell = _inside_async_unsafe()


def is_djangos(function: Any) -> bool:
    """Tell whether a method of Django's wrapper is Django's own, with nothing around it.

    `False` if that can't be told.
    """
    # Not by its name or module: what is around it may have copied them.
    return type(function) is FunctionType and function.__code__ is _async_unsafe


djangos_connect: Any = (
    BaseDatabaseWrapper.connect
    if _async_unsafe is None
    else inspect.unwrap(BaseDatabaseWrapper.connect, stop=is_djangos)
)
"""Django's `connect()`, without what was around it by now, as far as that can be told."""

_told = False


def lead_to(ours: Callable[[Any], bool]) -> bool:
    """Let Django's `connect(self)` ask `ours(self)` first: True means that it has connected.

    To be called when there is something around Django's function (`DatabaseWrapper.connect is not
    djangos_connect`): then `DatabaseWrapper.connect(self)` leads through it to `ours`. Returns
    whether it does; not if what is around Django's function hid it from us. Logs that once.
    """
    global _told
    if not is_djangos(djangos_connect):
        if not _told:
            _told = True
            logger.warning(
                "What was put around Django's connect() can't be led to the pool: it won't see borrows"
            )
        return False
    cell = djangos_connect.__closure__[_cell]
    if cell.cell_contents.__module__ != __name__:
        cell.cell_contents = _asking(ours, cell.cell_contents)
    return True


def _asking(ours: Callable[[Any], bool], djangos: Callable[[Any], None]) -> Any:
    def connect(self: Any) -> None:
        if not ours(self):
            djangos(self)

    return connect
