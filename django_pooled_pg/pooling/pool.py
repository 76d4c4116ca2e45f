"""The pool of one alias in one process: lends connections, and gets them back.

Knows nothing of Django's requests, and uses psycopg_pool only through `backing`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from psycopg_pool import PoolClosed, PoolTimeout

from .config import PoolConfig
from .connector import Connector, SessionMaker
from .housekeeping import Housekeeping
from .lease import HolderRef, Lease
from .ledger import Ledger
from .process.borrowers import Borrower, borrower
from .session.check import Check
from .session.reset import Reset, is_clean
from .session.session import IDLE, session_of
from .session.statements import CHANGES, NEW_TYPES
from .session.use import Use
from .strays import Strays
from .supply import Supply
from .waiting import Waiting
from .waits import told_of

if TYPE_CHECKING:
    from .statistics import PoolStatistics

logger = logging.getLogger(__name__)


class Pool:
    """The connections of one alias in one process, and who has them.

    `make` opens server sessions, in worker threads. `on_open` is called, without any lock held,
    each time the pool starts to work. Any method may be called from any thread at any time. A
    closed pool isn't dead: the next borrow opens it again.
    """

    def __init__(
        self,
        alias: str,
        config: PoolConfig,
        make: SessionMaker,
        on_open: Callable[[], None],
    ) -> None:
        self.alias = alias
        self.name = config.name or alias
        # Whether a connection goes back before its request ends.
        self.returns_early = config.return_at == "transaction"
        self._make = make
        self._on_open = on_open
        self._start_empty(config)

    def _start_empty(self, config: PoolConfig) -> None:
        self.ledger = Ledger()
        self._connector = Connector(self.name, self._make, config.configure, self._fail_waiting)
        self.supply = supply = Supply(
            self.alias, self.name, config, self.ledger, self._connector, self._on_open
        )
        # The pool passes on the methods that control its supply.
        self.close, self.drain, self.resize = supply.close, supply.drain, supply.resize
        self.pause, self.resume, self.check_idle = supply.pause, supply.resume, supply.check_idle
        self.cut_off_by, self.ask_server = supply.cut_off_by, self._connector.ask_server
        self.check = check = Check(config)
        self.waiting = Waiting(self.alias, self.name, supply, self.ledger, self._connector, check)
        self._reset = Reset(self.name, config, self._connector.configure_again)
        self.strays = Strays(self.name, self.ledger, self._connector)
        self.housekeeping = Housekeeping(self.name, config, self.ledger, self.give_back)

    @property
    def config(self) -> PoolConfig:
        """The settings in force."""
        return self.supply.config

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<Pool {self.name!r} alias={self.alias!r} size={s.size}/{s.max_size} "
            f"in_use={s.in_use} idle={s.idle} waiting={s.waiting}>"
        )

    # Borrow and give back

    def borrow(self, holder: HolderRef | None = None, who: Borrower | None = None) -> Lease:
        """Lend a connection that is alive, waiting up to `config.timeout` seconds.

        `who` stands for this thread. Raises `PoolExhausted` when none is free in time, and the
        server's own error (`psycopg.OperationalError`) at once when the pool can't connect and
        has no other connection to wait for.
        """
        started = now = monotonic()
        who = who or borrower()
        ledger, check = self.ledger, self.check
        while True:
            connection = None
            # The same steps as in _lend_awaited(), inline: one call less for each request.
            with ledger.lock:
                backing = ledger.backing
                if backing is not None and (connection := backing.take_idle()) is not None:
                    session = session_of(connection)
                    use = Use(session)
                    lease = Lease(self, connection, session, use, backing, holder, who, now)
                    ledger.leases.add(lease)
            if connection is None:
                lease = self._lend_awaited(started, holder, who)
                connection, session, now = lease.connection, lease.session, lease.since
            if check.is_fit(connection, session, now) and not session.given_up:
                return lease
            self.supply.drop_dead(lease, self.check.is_unwanted)
            # Each that must be asked and doesn't answer takes time.
            self.waiting.require_wanted(since=now)
            now = monotonic()

    @told_of
    def _lend_awaited(self, started: float, holder: HolderRef | None, who: Borrower) -> Lease:
        ledger = self.ledger
        while True:
            backing, connection = self.waiting.for_connection(started)
            now = monotonic()
            session = session_of(connection)
            use = Use(session)
            lease = Lease(self, connection, session, use, backing, holder, who, now)
            with ledger.lock:
                # It is given up if this borrower was taken for gone meanwhile.
                if not session.given_up:
                    ledger.leases.add(lease)
                    ledger.counters.waits.add(now - started)
                    return lease

    def give_back(self, lease: Lease, *, reclaimed: bool = False) -> None:
        """Get a lent connection back. Does nothing if it came back already.

        Its borrower must have forgotten it: anything kept is useless from now on. A worker undoes
        in the background what was left behind. A connection that can't be reset is closed and
        replaced.
        """
        if lease.returned:
            return
        ledger, use, connection, session = self.ledger, lease.use, lease.connection, lease.session
        # First of all: from here on, only code in the middle of a call holds the connection's lock,
        # which is looked at next.
        use.end()
        unusual = use.effect or use.handled or use.doubt or use.refused_to_write or use.cancel
        if self._reset.is_quick_to_tell and not unusual:
            # is_clean() inline, for nearly all leases.
            clean = (
                session.pgconn.transaction_status == IDLE
                and session.namespace["_autocommit"]
                and not session.namespace["lock"].locked()
                and not use.open_cursors
            )
        else:
            self._reset.put_attributes_back(connection, session)
            clean = not (
                use.open_cursors
                or use.refused_to_write
                or self._reset.is_needed(connection, session, use)
            )
        now = monotonic()
        with ledger.lock:
            if lease not in ledger.leases:
                return  # and by now, `clean` may describe another borrower's use
            lease.returned = True
            if lease.on_return is not None:
                lease.on_return(now)
            counters = ledger.counters
            counters.returns += 1
            counters.held_lately.append(now - lease.since)
            if not counters.returns & 255:
                counters.add_held_lately()
            counters.worked_total += use.worked
            counters.reclaimed += reclaimed
            session.idle_since = now
            # Out of the book last: what an interrupt leaves half done must be found there.
            if clean and lease.backing.put_clean(connection, now):
                ledger.leases.discard(lease)
                return
            ledger.leaving.add(lease)
            ledger.leases.discard(lease)
        self._put_used(lease)
        with ledger.lock:
            ledger.leaving.discard(lease)

    def may_end(self, lease: Lease) -> bool:
        """Tell whether the lease may end while its borrower goes on, perhaps with another one.

        Not if that would show because the session holds state: then the lease is pinned.
        """
        use, session = lease.use, lease.session
        if not (use.effect or use.handled or use.doubt or use.cancel):
            # is_clean() inline, for nearly all leases; give_back() checks the rest.
            if session.pgconn.transaction_status == IDLE:
                return True
        elif is_clean(lease.connection, session, use):
            return True
        if not lease.pinned:
            with self.ledger.lock:
                lease.pinned = True
                self.ledger.counters.pinned += 1
        return False

    def _put_used(self, lease: Lease) -> None:
        connection, session, use = lease.connection, lease.session, lease.use
        use.end_server_cursors()
        if use.refused_to_write and self.check.suspect(session):
            logger.warning(
                "Pool %r: the server refused to write; all connections are checked", self.name
            )
            connection.close()
        self.note_new_types(use)
        if self._reset.is_needed(connection, session, use):
            self._reset.put(lease.backing, connection, use)
        else:
            lease.backing.put(connection)

    def note_new_types(self, use: Use) -> None:
        """Replace the connections if a session has created a type: the others don't know it.

        Call it when the session's transaction is over.
        """
        if use.effect == NEW_TYPES:
            use.effect = CHANGES
            self.drain()

    def would_reset(self, lease: Lease) -> bool:
        """Tell whether the lease's session would be rolled back or reset if it ended now."""
        return self._reset.is_needed(lease.connection, lease.session, lease.use)

    def look_after(self) -> float | None:
        """Do what is due; return after how many seconds to call again; `None`: when it opens."""
        ledger = self.ledger
        if ledger.backing is None and not ledger.closing and not self._connector.alive():
            return None
        self.supply.look_after()
        return min(self.housekeeping.look_after(), self.strays.look())

    def leases(self) -> list[Lease]:
        """Return the open leases."""
        return self.ledger.open_leases()

    def _fail_waiting(self, error: Exception) -> None:
        if (backing := self.ledger.backing) is not None:
            backing.fail_waiting(error)

    # Life cycle

    def open(self, *, wait: bool = False) -> None:
        """Open up to `min_size` connections before anybody asks for them.

        In the background; with `wait`, returns when they are open, and raises what `borrow` would
        raise if they can't be. While the pool is paused, opening is left to the first borrower
        after `resume()`.
        """
        try:
            self.supply.opened().fill()
        except PoolClosed:
            pass  # it is paused
        if wait:
            # Borrowing brings the server's own error; psycopg_pool's wait() only times out.
            lease = self.borrow()
            backing = lease.backing
            self.give_back(lease)
            try:
                backing.wait(self.config.timeout)
            except PoolTimeout as ex:
                raise self.waiting.exhausted(ex, waiting=backing.waiting) from ex

    def forget_inherited(self) -> None:
        """In a forked child: start empty, and leave the parent's connections alone."""
        # No lock: this is the child's only thread, and a thread that doesn't exist here may have
        # held it at the fork.
        leases, backing = list(self.ledger.leases), self.ledger.backing
        self._connector.detach_all()
        for each in (backing, *self.ledger.closing):
            if each is not None:
                each.disarm()
        for lease in leases:
            lease.backing.disarm()
            lease.use.end()
        self._start_empty(self.config)
        for lease in leases:
            if (holder := lease.living_holder()) is not None:
                holder.lease_lost(by_fork=True)

    # Seeing it

    def statistics(self) -> PoolStatistics:
        """Return the figures of this moment."""
        # Imported late: it would cost each start a millisecond.
        from .figures import figures_of

        return figures_of(
            self.alias, self.name, self.supply, self.ledger, self._connector, self._reset
        )
