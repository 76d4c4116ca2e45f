"""Owns what is done for a pool from time to time: reclaim, leak reports, lost connections.

Runs in the thread of `process/borrowers.py`; lends nothing.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from .lease import place_of

if TYPE_CHECKING:
    from .pool import Pool

logger = logging.getLogger(__name__)


class Housekeeping:
    """The housekeeping of one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def reclaim(self, who: object) -> None:
        """Take back what was lent to a thread that has ended or a holder that was collected."""
        for lease in self._pool.leases():
            holder = lease.living_holder()
            # Not the thread that had it connect, but the one it belongs to, which may go on with it.
            owner = lease.borrower if holder is None else holder.owner
            if owner is not who and lease.holder is not who:
                continue
            if holder is not None:
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
        delays = [self._report_leaks(), self._pool.strays.look()]
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
