"""What one process tells about itself and its pools.

Must not know how it is asked, and imports neither `django.http`, settings nor models. Reveals
no connection parameters: what is shown here ends up on screens and in log files.
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

# Incremented when a key is removed or changes its meaning; new keys don't need that.
VERSION = 1
# The most in one answer, whatever is asked for: the answer's size is limited.
_MOST_HOLDERS = 500


def process_snapshot(holders: int = 0) -> dict[str, Any]:
    """Return this process and its pools at this moment, ready for JSON.

    - `version`: `VERSION`;
    - `pid`, `parent_pid`;
    - `process`: a short name for what runs, such as `"gunicorn"` or `"manage.py migrate"`;
    - `started`: seconds since the epoch, when this package was loaded or, in a forked child,
      when it was forked;
    - `pools`: for each pool the fields of `PoolStatistics`;
    - `holders`: the leases of each pool that have been held longest, at most `holders` per pool and
      500 in all, each with `alias`, `name` (the pool's), `thread`, `thread_id`, `held` (seconds),
      `pinned` (the command that keeps it from going back early, or `None`), `abandoned` (whether it
      is held for a request whose client has gone), `remaining` (seconds until the deadline of the
      work it is held for, or `None`) and `place` (where its thread is now).
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
    """Say whether the work that last used the lease is still wanted."""
    work = lease.use.work
    while work is not None and work.is_over():
        work = work.outer
    if work is None:
        return {"abandoned": False, "remaining": None}
    return {
        "abandoned": work.is_abandoned,
        "remaining": None if work.until == inf else max(0.0, work.until - now),
    }
