"""Owns what is done for a pool from time to time: reclaim, leak reports, lost connections.

Runs in the thread of `reclaim.py`; lends nothing.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

from .backing import Connection
from .lease import place_of

if TYPE_CHECKING:
    from .pool import Pool

logger = logging.getLogger(__name__)

# Seconds between two looks for lost connections, and how many looks there are.
_LOOK_EVERY = 1.0
_LOOKS = 3


class Housekeeping:
    """The housekeeping of one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._looks_due = 0
        self._looked_at = -math.inf
        self._strays: set[Connection] = set()

    def reclaim(self, who: object) -> None:
        """Take back what was lent to a thread that has ended or a holder that was collected."""
        for lease in self._pool.leases():
            if lease.borrower is not who and lease.holder is not who:
                continue
            if (holder := lease.living_holder()) is not None:
                if holder.allow_thread_sharing:
                    continue  # until nobody has it any more: then this is called again
                holder.lease_lost()
            logger.warning(
                "Pool %r: took back a connection that %s (%s) held for %.1f s and never returned. "
                "Call django.db.connection.close() before such a thread ends.",
                self._pool.name,
                lease.borrower.name,
                lease.borrower.thread_id,
                monotonic() - lease.since,
            )
            self._pool.give_back(lease, reclaimed=True)

    def look_after(self) -> float | None:
        """Do what is due; return in how many seconds to come again, `None` for never."""
        delays = [self._report_leaks(), self._find_lost()]
        return min((delay for delay in delays if delay is not None), default=None)

    def _report_leaks(self) -> float | None:
        threshold = self._pool.config.leak_threshold
        if threshold is None:
            return None
        now = monotonic()
        for lease in self._pool.leases():
            held = now - lease.since
            if held >= threshold and not lease.reported:
                lease.reported = True
                logger.warning(
                    "Pool %r: %s (%s) has held a connection for %.1f s (leak_threshold is %g s); "
                    "it is now %s.",
                    self._pool.name,
                    lease.borrower.name,
                    lease.borrower.thread_id,
                    held,
                    threshold,
                    place_of(lease),
                )
        return min(threshold / 4, 1.0)

    def look_for_lost(self) -> None:
        """Look, some times, for connections that nobody has: neither the pool nor a borrower.

        An interrupt (Ctrl-C, a task's time limit) may have hit a borrow or a return there.
        """
        self._looks_due = _LOOKS

    def _find_lost(self) -> float | None:
        if not self._looks_due:
            return None
        if (early := self._looked_at + _LOOK_EVERY - monotonic()) > 0:
            return early
        self._looked_at = monotonic()
        self._looks_due -= 1
        # On its way somewhere in one look is normal; in two looks, it won't arrive.
        strays = self._pool.strays()
        for connection in strays & self._strays:
            self._pool.drop_stray(connection)
        self._strays = strays if self._looks_due else set()
        return _LOOK_EVERY
