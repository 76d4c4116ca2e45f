"""Carries out a command on this process's pools; doesn't know who gave it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ..pooling import registry
from ..pooling.pool import Pool
from ..pooling.process.naming import process_name

logger = logging.getLogger(__name__)


class WrongRequest(ValueError):
    """The request makes no sense; the message is for whoever sent it."""


def control(
    action: str,
    alias: str,
    min_size: int | None = None,
    max_size: int | None = None,
    budget: int | None = None,
) -> dict[str, Any]:
    """Do `action` (see `ACTIONS`) to the pools of an alias; return what was done.

    - `process`: as in `process_snapshot`;
    - `done`: for each pool its `name`, and either `said`, what was done, or `error`.

    The sizes are for `"resize"`. Raises `WrongRequest`.
    """
    if action not in tuple(ACTIONS):  # `action` may be of any type
        raise WrongRequest(f"no action is named {action!r}, only: {', '.join(ACTIONS)}")
    if not isinstance(alias, str):
        raise WrongRequest(f"'alias' is not a string but {alias!r}")
    given = {"min_size": min_size, "max_size": max_size, "budget": budget}
    sizes = {name: size for name, size in given.items() if size is not None}
    if action == "resize" and not sizes:
        raise WrongRequest("'resize' needs 'min_size', 'max_size' or 'budget'")
    if action != "resize" and sizes:
        raise WrongRequest(f"sizes and 'budget' are for 'resize', not for {action!r}")
    done = []
    for pool in registry.pools():
        if pool.alias != alias:
            continue
        try:
            done.append({"name": pool.name, "said": ACTIONS[action](pool, **sizes)})
        except ImproperlyConfigured as ex:
            done.append({"name": pool.name, "error": str(ex)})
        except Exception as ex:  # reported to whoever asked; the other pools still get their turn
            logger.exception("Pool %r: could not %s", pool.name, action)
            done.append({"name": pool.name, "error": f"{type(ex).__name__}; see the site's log"})
    return {"process": process_name(), "done": done}


def _drain(pool: Pool) -> str:
    s = pool.statistics()
    pool.drain()
    if s.paused:
        return f"paused: nothing is idle; {s.in_use} in use are closed as they return"
    return f"replacing {s.idle} idle connections now, and {s.in_use} in use as they return"


def _check(pool: Pool) -> str:
    asked, dropped = pool.check_idle()
    return f"asked the server over {asked} idle connections, dropped {dropped}"


def _resize(
    pool: Pool,
    min_size: int | None = None,
    max_size: int | None = None,
    budget: int | None = None,
) -> str:
    before = pool.statistics()
    pool.resize(min_size, max_size, budget)
    after = pool.statistics()
    changed = [
        f"min_size {before.min_size} -> {after.min_size}",
        f"max_size {before.max_size} -> {after.max_size}",
    ]
    if after.budget:
        changed.append(f"budget {before.budget} -> {after.budget}")
    return f"{', '.join(changed)}, until the process ends"


def _pause(pool: Pool) -> str:
    s = pool.statistics()
    pool.pause()
    already = "paused already" if s.paused else f"paused: closed {s.idle} idle connections"
    return f"{already}; {s.in_use} in use are closed as they return"


def _resume(pool: Pool) -> str:
    s = pool.statistics()
    pool.resume()
    return f"resumed: {s.waiting} borrowers were waiting" if s.paused else "was not paused"


ACTIONS: dict[str, Callable[..., str]] = {
    "drain": _drain,
    "check": _check,
    "resize": _resize,
    "pause": _pause,
    "resume": _resume,
}
