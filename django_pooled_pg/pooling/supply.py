"""Supplies one pool with connections: opens, grows, shrinks and drops what it lends from.

Lends nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

from psycopg_pool import PoolClosed

from .backing.null import AnyBacking, make_backing
from .config import Connection, PoolConfig
from .connector import Connector
from .gate import Gate
from .lease import Lease
from .ledger import Ledger
from .process import gevent_order
from .retiring import retire
from .session.liveness import answers
from .session.session import session_of

if TYPE_CHECKING:
    from .budget.member import Member

logger = logging.getLogger(__name__)

# Seconds after which a closing is either done or was interrupted.
LOOK_EVERY = 1.0


class Supply:
    """Where a pool's connections come from. Makes the psycopg_pool when somebody needs it.

    `on_open` is called, without any lock held, each time the pool starts to work. Any method may
    be called from any thread at any time.
    """

    def __init__(
        self,
        alias: str,
        name: str,
        config: PoolConfig,
        ledger: Ledger,
        connector: Connector,
        on_open: Callable[[], None],
    ) -> None:
        self._alias = alias
        self._name = name
        # resize() changes this.
        self.config = config
        self._ledger = ledger
        self._connector = connector
        self._on_open = on_open
        self.gate = Gate()
        # Its share of the budget, if there is one.
        self.member: Member | None = None
        if connector.budget is not None:
            from .budget.member import Member  # imported only here: Windows has no fcntl

            self.member = Member(
                name, connector.budget, config, connector.alive, connector.failed, self._backing
            )

    def _backing(self) -> AnyBacking | None:
        return self._ledger.backing

    def opened(self) -> AnyBacking:
        """Return the psycopg_pool; opens it if needed.

        Raises `PoolClosed` while the pool is paused, and `ImproperlyConfigured`.
        """
        ledger = self._ledger
        with ledger.lock:
            backing = ledger.backing
            if backing is None:
                if not self.gate.is_open():
                    raise PoolClosed("paused")
                gevent_order.refuse(self._name)
                backing = make_backing(
                    self._name, self.config, self._connector, ledger.lock, self.member
                )
                backing.open()
                # Only now: one that an interrupt left half open must not be found here.
                ledger.backing = backing
        if not backing.announced:
            self._on_open()
            backing.announced = True
        return backing

    def close(self, timeout: float = 5.0) -> None:
        """Close idle connections now, and lent ones when they return.

        Borrowers who wait go on waiting and, like the next borrower, get a connection when the pool
        opens again. Waits up to `timeout` seconds for a connection that is being opened. Safe from
        any thread at any time.
        """
        ledger = self._ledger
        with ledger.lock:
            backing = ledger.backing
            if backing is None:
                return
            # Noted first: what an interrupt leaves half closed must be found there.
            ledger.closing[backing] = monotonic()
            ledger.backing = None
        if backing.runs_in_own_worker():
            # A callback (`configure`, ...) closes the pool: its thread can't wait for itself.
            threading.Thread(target=backing.close, args=(timeout,), daemon=True).start()
        else:
            backing.close(timeout)
        with ledger.lock:
            ledger.closing.pop(backing, None)
        if self.member is not None:
            self.member.wake()

    def look_after(self) -> None:
        """Do what is due each second."""
        self.end_half_closed()
        retire(self._name, self.config, self._ledger)

    def end_half_closed(self) -> None:
        """End the threads of what an interrupt has left half closed.

        If somebody is still closing it, and waits for its threads, they are just told to end again.
        """
        with self._ledger.lock:
            found = self._take_half_closed(monotonic() - LOOK_EVERY)
        for backing in found:
            # Not in this thread: the interrupt may have left a lock held that would block it.
            threading.Thread(target=backing.end_threads, daemon=True).start()

    def _take_half_closed(self, before: float) -> list[AnyBacking]:
        ledger = self._ledger
        found = [
            backing
            for backing, since in ledger.closing.items()
            if since < before and backing is not ledger.backing
        ]
        for backing in found:
            del ledger.closing[backing]
        return found

    def drain(self) -> None:
        """Replace all connections with new ones: idle ones now, lent ones when they return."""
        with self._ledger.lock:
            backing = self._ledger.backing
        if backing is not None:
            backing.drain()

    def pause(self, timeout: float = 2.0) -> None:
        """Make borrowers wait, up to their timeout, until `resume()`.

        Idle connections are closed now and lent ones when they return, so that the server can be
        restarted or replaced. Applies to this process only; a child that it forks isn't paused.
        Waits up to `timeout` seconds for a connection that is being opened.
        """
        with self._ledger.lock:  # nobody is between the gate and opening the pool
            self.gate.close()
        self.close(timeout)

    def resume(self) -> None:
        """Let those who have waited since `pause()` go on."""
        self.gate.open()

    def resize(
        self,
        min_size: int | None = None,
        max_size: int | None = None,
        budget: int | None = None,
    ) -> None:
        """Change `min_size`, `max_size` or `budget` until this process ends.

        Surplus connections are closed: idle ones now, lent ones when they return. Raises
        `ImproperlyConfigured` for sizes that don't go together.
        """
        ledger = self._ledger
        with ledger.lock:
            self.config = config = self.config.resized(self._alias, min_size, max_size, budget)
            backing = ledger.backing
            surplus = (
                backing.resize_to(config.min_size, config.max_size) if backing is not None else []
            )
        for connection in surplus:
            connection.close()
        if self.member is not None:
            self.member.resize(config)
        if backing is not None:
            backing.fill()

    def check_idle(self) -> tuple[int, int]:
        """Ask the server over each idle connection; return how many were asked, and dropped.

        All at once: if the server doesn't answer, it takes 2 s, during which none of them is lent.
        """
        ledger = self._ledger
        with ledger.lock:
            backing = ledger.backing
            asked = backing.take_idle_if(lambda connection: True) if backing is not None else []
            for connection in asked:
                session_of(connection).is_busy = True
        if backing is None or not asked:
            return 0, 0
        dead: list[Connection] = []
        try:
            with ThreadPoolExecutor(len(asked), "django_pooled_pg-check") as executor:
                alive = list(executor.map(answers, asked))
            dead += [c for c, answered in zip(asked, alive, strict=True) if not answered]
        finally:
            # Whatever went wrong (no more threads, an interrupt): each one must go somewhere.
            for connection in asked:
                session_of(connection).is_busy = False
                if connection not in dead:
                    session_of(connection).idle_since = monotonic()
                    backing.put(connection)
            self._drop_dead(backing, dead)
        return len(asked), len(dead)

    def cut_off_by(self) -> tuple[Exception, float] | None:
        """Return why, and since when, the pool has no connection and can't open one.

        As far as it knows: also `None` while it is closed, since nobody has tried then. The time is
        a `time.monotonic()` reading.
        """
        return self._connector.cut_off_by() if self._ledger.backing is not None else None

    def drop_dead(self, lease: Lease, unwanted: Callable[[Connection], bool]) -> None:
        """Drop a connection that was found dead, and those idle ones that are `unwanted`.

        Whatever ended its session probably ended others: check them all now, rather than let one
        borrower after another find them.
        """
        ledger, backing = self._ledger, lease.backing
        with ledger.lock:
            if lease not in ledger.leases:
                return  # given up meanwhile
            ledger.leases.discard(lease)
            # Lent and given back at once: a count of borrows must not go backwards.
            ledger.counters.returns += 1
        idle = backing.take_idle_if(unwanted)
        self._drop_dead(backing, [lease.connection, *idle])

    def _drop_dead(self, backing: AnyBacking, dead: list[Connection]) -> None:
        if not dead:
            return
        for connection in dead:
            backing.drop(connection)
        backing.fill()
        with self._ledger.lock:
            self._ledger.counters.dead += len(dead)
        logger.info("Pool %r: dropped %d dead connections", self._name, len(dead))
