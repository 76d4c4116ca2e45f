"""Owns what this process does to its pools when it is told to; must not know by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ..pooling import registry
from ..pooling.pool import Pool


def control(
    action: str, alias: str, min_size: int | None = None, max_size: int | None = None
) -> dict[str, Any]:
    """Do `action` (see `ACTIONS`) to the pools of an alias; return `{"done": [...]}`.

    That has for each pool its `name`, and either `said`, what was done, or `error`. The sizes are
    for `"resize"`. Raises `ValueError` for an unknown action.
    """
    if action not in ACTIONS:
        raise ValueError(f"no action is named {action!r}, only: {', '.join(ACTIONS)}")
    done = []
    for pool in registry.pools():
        if pool.alias != alias:
            continue
        try:
            if action == "resize":
                said = _resize(pool, min_size, max_size)
            else:
                said = ACTIONS[action](pool)
            done.append({"name": pool.name, "said": said})
        except ImproperlyConfigured as ex:
            done.append({"name": pool.name, "error": str(ex)})
    return {"done": done}


def _drain(pool: Pool) -> str:
    s = pool.statistics()
    pool.drain()
    return f"replacing {s.idle} idle connections now, and {s.in_use} in use as they return"


def _check(pool: Pool) -> str:
    asked, dropped = pool.check_idle()
    return f"asked the server over {asked} idle connections, dropped {dropped}"


def _resize(pool: Pool, min_size: int | None = None, max_size: int | None = None) -> str:
    before = pool.statistics()
    pool.resize(min_size, max_size)
    after = pool.statistics()
    return (
        f"min_size {before.min_size} -> {after.min_size}, "
        f"max_size {before.max_size} -> {after.max_size}, until the process ends"
    )


def _pause(pool: Pool) -> str:
    s = pool.statistics()
    pool.pause()
    return f"paused: closed {s.idle} idle connections; {s.in_use} in use are closed as they return"


def _resume(pool: Pool) -> str:
    waiting = pool.statistics().waiting
    pool.resume()
    return f"resumed: {waiting} borrowers were waiting"


ACTIONS: dict[str, Callable[[Pool], str]] = {
    "drain": _drain,
    "check": _check,
    "resize": _resize,
    "pause": _pause,
    "resume": _resume,
}
