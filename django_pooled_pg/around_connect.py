"""Makes what others put around connecting go around a borrow, too.

Sentry and others replace Django's `connect()` with a function that calls Django's, and may have
done so before this package is imported. From there, only Django's own function can lead to us. So
that is what it does, once there is something around it.

This needs a look inside Django's `async_unsafe()`. Should that change, everything else goes on, but
what is around Django's function sees no borrows.
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
    # All functions made by async_unsafe() share one code object, and hold the original in a cell.
    try:
        from django.utils.asyncio import async_unsafe

        made: Any = async_unsafe(lambda: None)
        return made.__code__, made.__code__.co_freevars.index("func")
    except Exception as ex:  # whatever it has become: we can do without it
        logger.debug("Django's async_unsafe() isn't what it was: %r", ex)
        return None, 0


_async_unsafe, _cell = _inside_async_unsafe()


def is_djangos(function: Any) -> bool:
    """Tell whether a method of Django's wrapper is Django's own, with nothing around it.

    `False` if that can't be told.
    """
    # Not by name or module: what is around it may have copied those.
    return type(function) is FunctionType and function.__code__ is _async_unsafe


djangos_connect: Any = (
    BaseDatabaseWrapper.connect
    if _async_unsafe is None
    else inspect.unwrap(BaseDatabaseWrapper.connect, stop=is_djangos)
)
"""Django's `connect()`, without anything around it so far, as far as that can be told."""

_told = False


def lead_to(ours: Callable[[Any], bool]) -> bool:
    """Make Django's `connect(self)` ask `ours(self)` first: True means that it has connected.

    Call it if something is around Django's function (`DatabaseWrapper.connect is not
    djangos_connect`): then `DatabaseWrapper.connect(self)` leads through it to `ours`. Returns
    whether it does; not if what is around Django's function hides it from us. Logs that once.
    """
    global _told
    if not is_djangos(djangos_connect):
        if not _told:
            _told = True
            logger.warning(
                "Code around Django's connect() can't be linked to the pool: it won't see borrows"
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
