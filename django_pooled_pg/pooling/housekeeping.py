"""Does a pool's regular chores: reclaims, leak reports, forgotten leases, tokens.

Runs in the thread of `process/borrowers.py`; lends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from .config import PoolConfig
from .lease import Lease, place_of
from .ledger import Ledger

logger = logging.getLogger(__name__)

# The longest time between two looks, in seconds.
LOOK_EVERY = 1.0
# Seconds after which a reset is logged; each round trip of the pool's own resets has a limit.
LONG_RESET = 10.0


class Housekeeping:
    """The housekeeping of one pool; `give_back` is that of the pool."""

    def __init__(
        self,
        pool_name: str,
        config: PoolConfig,
        ledger: Ledger,
        give_back: Callable[..., None],
    ) -> None:
        self._pool_name = pool_name
        self._leak_threshold = config.leak_threshold
        self._renew = config.credentials.renew if config.credentials is not None else None
        self._ledger = ledger
        self._give_back = give_back

    def reclaim(self, who: object) -> None:
        """Give back what a thread that has ended, or a garbage-collected holder, had borrowed."""
        for lease in self._ledger.open_leases():
            holder = lease.living_holder()
            # Not the thread that made it connect, but its owner, which may still use it.
            owner = lease.borrower if holder is None else holder.owner
            if owner is not who and lease.holder is not who:
                continue
            if holder is not None:
                if holder.allow_thread_sharing:
                    continue  # others may use it; its garbage collection calls this again
                holder.lease_lost(by_fork=False)
            logger.warning(
                "Pool %r: reclaimed a connection that %s (%s) held for %.1f s and never returned. %s",
                self._pool_name,
                lease.borrower.name,
                lease.borrower.thread_id,
                monotonic() - lease.since,
                lease.borrower.advice,
            )
            self._give_back(lease, reclaimed=True)

    def look_after(self) -> float:
        """Do what is due; return after how many seconds to call again."""
        for lease in self._ledger.open_leases():
            self._report_leak(lease)
            self._end_if_forgotten(lease)
        self._report_long_resets()
        if self._renew is not None:
            self._renew()
        return min((self._leak_threshold or LOOK_EVERY) / 4, LOOK_EVERY)

    def _end_if_forgotten(self, lease: Lease) -> None:
        # Its last cursor was closed or garbage-collected in another thread; its own thread is idle
        # and doesn't notice.
        use = lease.use
        if use.watcher is None or use.open_cursors or monotonic() - lease.since < LOOK_EVERY:
            return
        holder = lease.living_holder()
        if holder is not None:
            holder.give_back_unused(lease)

    def _report_long_resets(self) -> None:
        backing = self._ledger.backing
        for call in backing.calls() if backing is not None else ():
            if call.connection is None or call.since is None or call.reported:
                continue
            if (seconds := monotonic() - call.since) >= LONG_RESET:
                call.reported = True
                logger.warning(
                    "Pool %r: 'reset', or 'configure' after it, has run for %.1f s, and nobody can "
                    "borrow its connection; give it a time limit",
                    self._pool_name,
                    seconds,
                )

    def _report_leak(self, lease: Lease) -> None:
        threshold, held = self._leak_threshold, monotonic() - lease.since
        if threshold is None or held < threshold or lease.reported:
            return
        lease.reported = True
        logger.warning(
            "Pool %r: %s (%s) has held a connection for %.1f s (leak_threshold is %g s); "
            "it is now %s.",
            self._pool_name,
            lease.borrower.name,
            lease.borrower.thread_id,
            held,
            threshold,
            place_of(lease),
        )
