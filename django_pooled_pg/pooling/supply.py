"""Owns the supply of one pool's connections: opens, grows, shrinks, drops what it lends from.

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

# Seconds after which whoever closes has either done it or was interrupted.
LOOK_EVERY = 1.0


class Supply:
    """Where a pool's connections come from. The psycopg_pool is made when somebody needs it.

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
        # What resize() changes.
        self.config = config
        self._ledger = ledger
        self._connector = connector
        self._on_open = on_open
        self.gate = Gate()
        # Its part in the budget, if there is one.
        self.member: Member | None = None
        if connector.budget is not None:
            from .budget.member import Member  # not everywhere: Windows has no fcntl

            self.member = Member(
                name, connector.budget, config, connector.alive, connector.failed, self._backing
            )

    def _backing(self) -> AnyBacking | None:
        return self._ledger.backing

    def opened(self) -> AnyBacking:
        """Return the psycopg_pool, opened now if need be.

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
                # Not before: one that an interrupt left half open must not be found here.
                ledger.backing = backing
        if not backing.announced:
            self._on_open()
            backing.announced = True
        return backing

    def close(self, timeout: float = 5.0) -> None:
        """Close idle connections now and lent ones when they return.

        Those who wait for a connection go on waiting and, like the next borrower, get one
        of the pool as it opens again. Waits up to `timeout` seconds for a connection that is
        being made. Safe from any thread at any time.
        """
        ledger = self._ledger
        with ledger.lock:
            backing = ledger.backing
            if backing is None:
                return
            # Noted first: whatever an interrupt leaves half closed must be found there.
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

        What somebody closes still, waiting for its threads, is only told again to end them.
        """
        with self._ledger.lock:
            found = self._take_half_closed(monotonic() - LOOK_EVERY)
        for backing in found:
            # Not here: the interrupt may have left a lock of it locked, and with it who waits.
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
        """Replace all connections by new ones: idle ones now, lent ones when they return."""
        with self._ledger.lock:
            backing = self._ledger.backing
        if backing is not None:
            backing.drain()

    def pause(self, timeout: float = 2.0) -> None:
        """Let borrowers wait, up to their timeout, until `resume()`.

        Idle connections are closed now and lent ones when they return, so that the server can be
        restarted, or another one take its place. In this process only; a child that it forks is
        not paused. Waits up to `timeout` seconds for a connection that is being made.
        """
        with self._ledger.lock:  # nobody is between the gate and a pool that opens
            self.gate.close()
        self.close(timeout)

    def resume(self) -> None:
        """Let those who wait since `pause()` go on."""
        self.gate.open()

    def resize(
        self,
        min_size: int | None = None,
        max_size: int | None = None,
        budget: int | None = None,
    ) -> None:
        """Change `min_size`, `max_size` or `budget`, until this process ends.

        Idle connections that are too many are closed now, lent ones when they return. Raises
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

        All at once: where the server doesn't answer it takes 2 s, and meanwhile none is lent.
        """
        ledger = self._ledger
        with ledger.lock:
            backing = ledger.backing
            asked = backing.take_idle_if(lambda connection: True) if backing is not None else []
            for connection in asked:
                session_of(connection).in_check = True
        if backing is None or not asked:
            return 0, 0
        dead: list[Connection] = []
        try:
            with ThreadPoolExecutor(len(asked), "django_pooled_pg-check") as executor:
                alive = list(executor.map(answers, asked))
            dead += [c for c, answered in zip(asked, alive, strict=True) if not answered]
        finally:
            # Whatever came between (no more threads, an interrupt): each one has to go somewhere.
            for connection in asked:
                session_of(connection).in_check = False
                if connection not in dead:
                    session_of(connection).idle_since = monotonic()
                    backing.put(connection)
            self._drop_dead(backing, dead)
        return len(asked), len(dead)

    def cut_off_by(self) -> tuple[Exception, float] | None:
        """Return why, and since when, the pool has no connection and can't make one.

        As far as it knows: `None` also while it is closed, so that nobody has tried. The time is a
        `time.monotonic()` reading.
        """
        return self._connector.cut_off_by() if self._ledger.backing is not None else None

    def drop_dead(self, lease: Lease, unwanted: Callable[[Connection], bool]) -> None:
        """Drop a connection that was found dead, and those idle ones that are `unwanted`.

        Whatever ended its session probably ended others: look at all of them now, rather than let
        one borrower after the other find them.
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
