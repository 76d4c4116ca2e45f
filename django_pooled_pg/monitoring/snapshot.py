"""Owns what one process tells about itself and its pools.

Must not know how it is asked, and imports neither `django.http`, settings nor models. Tells
no connection parameters: what is shown here ends on screens and in log files.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from math import inf
from time import monotonic
from typing import Any

from ..pooling import (
    figures,  # noqa: F401  # now, not when a pool is asked: see `endpoint._importing`
    registry,
)
from ..pooling.lease import Lease, place_of
from ..pooling.pool import Pool
from ..pooling.process.naming import process_name

# Raised when a key is taken away or changes its meaning; new keys may come without.
VERSION = 1
# In one answer, whatever is asked for: there is a limit to what fits in.
_MOST_HOLDERS = 500


def process_snapshot(holders: int = 0) -> dict[str, Any]:
    """Return this process and its pools at this moment, ready for JSON.

    - `version`: `VERSION`;
    - `pid`, `parent_pid`;
    - `process`: a short name of what runs, e.g. `"gunicorn"` or `"manage.py migrate"`;
    - `started`: seconds since the epoch, when this package was loaded or, in a forked child,
      when it was forked;
    - `pools`: for each pool the fields of `PoolStatistics`;
    - `holders`: of each pool the leases that are open longest, `holders` of them at most and 500 in
      all, each with `alias`, `name` (the pool's), `thread`, `thread_id`, `held` (seconds), `pinned`
      (which command keeps it from going back early, or `None`), `abandoned` (whether it is held for
      a request whose client has gone), `remaining` (seconds until the deadline of what it is held
      for, or `None`) and `place` (where its thread is now).
    """
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "parent_pid": os.getppid(),
        "process": process_name(),
        "started": registry.started,
        "pools": [asdict(pool) for pool in registry.statistics()],
        "holders": [
            _holder(pool, lease)
            for pool in registry.pools()
            for lease in sorted(pool.leases(), key=lambda lease: lease.since)[:holders]
        ][:_MOST_HOLDERS],
    }


def _holder(pool: Pool, lease: Lease) -> dict[str, Any]:
    now = monotonic()
    return {
        "alias": pool.alias,
        "name": pool.name,
        "thread": lease.borrower.name,
        "thread_id": lease.borrower.thread_id,
        "held": now - lease.since,
        "pinned": (lease.use.reason or "?") if lease.pinned else None,
        **_wanted(lease, now),
        "place": place_of(lease),
    }


def _wanted(lease: Lease, now: float) -> dict[str, Any]:
    """Say whether the work is still wanted that used the lease last."""
    work = lease.use.work
    while work is not None and work.is_over():
        work = work.outer
    if work is None:
        return {"abandoned": False, "remaining": None}
    return {
        "abandoned": work.is_abandoned,
        "remaining": None if work.until == inf else max(0.0, work.until - now),
    }
