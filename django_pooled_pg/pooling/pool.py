"""Owns the pool of one alias in one process: borrow, return, close, statistics.

Knows nothing of Django's requests, and uses psycopg_pool through `backing` alone.
"""

from __future__ import annotations

import copy
import logging
from time import monotonic

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from .backing.claim import ConnectFailed
from .backing.null import AnyBacking
from .config import Connection
from .errors import PoolExhausted
from .exhaustion import Paused, explain
from .housekeeping import Housekeeping
from .lease import HolderRef, Lease
from .process import borrowers
from .process.borrowers import Borrower, borrower
from .session.check import Vetting
from .session.reset import Cleaning
from .session.session import Session, end_cursors, is_clean, session_of
from .session.statements import CHANGES, NEW_TYPES, NOTHING
from .statistics import PoolStatistics
from .strays import Strays
from .supply import Supply

logger = logging.getLogger(__name__)


class Pool(Supply):
    """The connections of one alias in one process, and who has them.

    Any method may be called from any thread at any time. A closed pool isn't dead: the next
    borrow opens it again.
    """

    def _start_empty(self) -> None:
        super()._start_empty()
        self._vetting = Vetting(self.config)
        self._cleaning = Cleaning(self.name, self.config, self._connector.configure_again)
        self.strays = Strays(self.name, self._ledger, self._connector)
        self.housekeeping = Housekeeping(self)

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<Pool {self.name!r} alias={self.alias!r} size={s.size}/{s.max_size} "
            f"in_use={s.in_use} idle={s.idle} waiting={s.waiting}>"
        )

    # Borrow and return

    def borrow(self, holder: HolderRef | None = None) -> Lease:
        """Lend a connection that is alive, waiting up to `config.timeout` seconds.

        Raises `PoolExhausted` when none is free in time, and the server's own error
        (`psycopg.OperationalError`) at once when the pool can't connect and has no other
        connection to wait for.
        """
        started = now = monotonic()
        who = borrower()
        ledger = self._ledger
        try:
            while True:
                connection = None
                # The same steps as in _lend_awaited(): a call less for each request.
                with ledger.lock:
                    backing = ledger.backing
                    if backing is not None and (connection := backing.take_idle()) is not None:
                        session = session_of(connection)
                        lease = Lease(self, connection, session, backing, holder, who, now)
                        ledger.leases.add(lease)
                if connection is None:
                    lease = self._lend_awaited(started, holder, who)
                    connection, session, now = lease.connection, lease.session, lease.since
                if self._vetting.is_fit(connection, session, now):
                    return lease
                self._drop_dead(lease)
        except (Error, psycopg.Error, ImproperlyConfigured):
            raise
        except BaseException:
            self._look_for_lost()
            raise

    def _lend_awaited(self, started: float, holder: HolderRef | None, who: Borrower) -> Lease:
        ledger = self._ledger
        while True:
            backing, connection = self._wait_for_connection(started)
            now = monotonic()
            session = session_of(connection)
            lease = Lease(self, connection, session, backing, holder, who, now)
            with ledger.lock:
                # It is when this borrower was taken for gone.
                if not session.given_up:
                    ledger.leases.add(lease)
                    ledger.counters.waits.add(now - started)
                    return lease

    def _wait_for_connection(self, started: float) -> tuple[AnyBacking, Connection]:
        deadline, max_waiting = started + self.config.timeout, self.config.max_waiting
        while True:
            self._pass_gate(deadline, max_waiting)
            try:
                backing = self._opened()
                return backing, backing.borrow(deadline - monotonic())
            except PoolClosed:
                # Somebody called close_pool() or pause() meanwhile: go on with the pool that opens
                # next. Whoever waits already isn't turned away for others who wait.
                max_waiting = 0
            except ConnectFailed as failed:
                # A copy: several borrowers may raise it at once, each with its own traceback.
                raise copy.copy(failed.error) from failed.error
            except (PoolTimeout, TooManyRequests) as ex:
                raise self._exhausted(ex, waiting=backing.waiting) from ex

    def _pass_gate(self, deadline: float, max_waiting: int) -> None:
        gate = self._gate
        # Here, too: else those who are too many would be turned away all at once by resume().
        if not gate.is_open() and 0 < max_waiting <= gate.waiting:
            raise self._exhausted(Paused(full=True), waiting=gate.waiting)
        if not gate.pass_through(deadline - monotonic()):
            raise self._exhausted(Paused(), waiting=gate.waiting)

    def _drop_dead(self, lease: Lease) -> None:
        # Whatever ended this session probably ended others: look at all idle ones now, rather
        # than let one borrower after the other find them.
        ledger, backing = self._ledger, lease.backing
        with ledger.lock:
            ledger.leases.discard(lease)
            # Lent and taken back at once: a count of borrows must not go backwards.
            ledger.counters.returns += 1
        backing.drop(lease.connection)
        dead = backing.remove_idle(unwanted=self._vetting.is_unwanted)
        for other in dead:
            other.close()
        backing.fill()
        with ledger.lock:
            ledger.counters.dead += 1 + len(dead)
        logger.info("Pool %r: dropped %d dead connections", self.name, 1 + len(dead))

    def give_back(self, lease: Lease, *, reclaimed: bool = False) -> None:
        """Take a lent connection back. Does nothing when it came back already.

        What the borrower left behind is cleaned up in the background. A connection that can't
        be cleaned is closed and replaced.
        """
        session = lease.session
        clean = not (
            session.open_cursors
            or session.refused_to_write
            or self._cleaning.is_needed(lease.connection, session)
        )
        self._take_back(lease, clean, reclaimed)

    def give_back_early(self, lease: Lease) -> bool:
        """Take a lent connection back while its borrower may yet go on with another one.

        Returns `False` when that would show, because the session holds state: then the lease
        is pinned.
        """
        session = lease.session
        if is_clean(lease.connection, session):
            sure = self._cleaning.only_where_needed and not session.refused_to_write
            self._take_back(lease, sure, reclaimed=False)
            return True
        if not lease.pinned:
            with self._ledger.lock:
                lease.pinned = True
                self._ledger.counters.pinned += 1
        return False

    def _take_back(self, lease: Lease, clean: bool, reclaimed: bool) -> None:
        ledger, session = self._ledger, lease.session
        now = monotonic()
        try:
            with ledger.lock:
                if lease not in ledger.leases:
                    return  # and `clean` may be about somebody else's work by now
                ledger.leases.remove(lease)
                if lease.on_return is not None:
                    lease.on_return(now)
                counters = ledger.counters
                counters.returns += 1
                counters.held.add(now - lease.since)
                counters.worked_total += session.worked
                if reclaimed:
                    counters.reclaimed += 1
                session.worked = 0.0
                session.watcher = None
                session.idle_since = now
                if clean:
                    session.effect = NOTHING
                    if lease.backing.put_idle(lease.connection, now):
                        return
            self._take_back_used(lease)
        except BaseException:
            self._look_for_lost()
            raise

    def _take_back_used(self, lease: Lease) -> None:
        connection, session = lease.connection, lease.session
        if session.open_cursors:
            end_cursors(session)
        if session.refused_to_write:
            session.refused_to_write = False
            if self._vetting.suspect(session):
                logger.warning(
                    "Pool %r: the server refused to write; all connections are checked", self.name
                )
                connection.close()
        self.note_new_types(session)
        if self._cleaning.is_needed(connection, session):
            self._cleaning.put_back(lease.backing, connection)
        else:
            lease.backing.take_back(connection)

    def note_new_types(self, session: Session) -> None:
        """Replace the connections, which don't know a type that the session has created.

        To be called when the session's transaction is over.
        """
        if session.effect == NEW_TYPES:
            session.effect = CHANGES
            self.drain()

    def would_clean(self, lease: Lease) -> bool:
        """Tell whether the lease's session would be rolled back or reset if it ended now."""
        return self._cleaning.is_needed(lease.connection, lease.session)

    def leases(self) -> list[Lease]:
        """Return the open leases."""
        return self._ledger.open_leases()

    def _look_for_lost(self) -> None:
        self.strays.look_soon()
        borrowers.wake()

    # Life cycle

    def open(self, *, wait: bool = False) -> None:
        """Open up to `min_size` connections before anybody asks for them.

        In the background; with `wait`, return when they are there. `wait` raises what
        `borrow` would raise when that fails. While the pool is paused, opening is left to the
        first borrower after `resume()`.
        """
        try:
            self._opened().fill()
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
                raise self._exhausted(ex, waiting=backing.waiting) from ex

    def forget_inherited(self) -> None:
        """In a forked child: start empty, and leave the parent's connections alone."""
        # No lock: this is the child's only thread, and a thread that isn't here may have
        # held it at the fork.
        leases, backing = list(self._ledger.leases), self._ledger.backing
        self._connector.detach_all()
        if backing is not None:
            backing.disarm()
        for lease in leases:
            lease.backing.disarm()
        self._start_empty()
        for lease in leases:
            if (holder := lease.living_holder()) is not None:
                holder.lease_lost()

    # Seeing it

    def statistics(self) -> PoolStatistics:
        """Return the figures of this moment."""
        config, ledger, counters = self.config, self._ledger, self._ledger.counters
        with ledger.lock:
            backing = ledger.backing
            in_use = len(ledger.leases)
            borrows = counters.returns + in_use
            wait = counters.waits.copy()
            wait.buckets[0] += borrows - sum(wait.buckets)  # who found one idle
            return PoolStatistics(
                alias=self.alias,
                name=self.name,
                pool_class=config.pool_class,
                return_at=config.return_at,
                min_size=config.min_size,
                max_size=config.max_size,
                timeout=config.timeout,
                paused=not self._gate.is_open(),
                size=backing.size if backing is not None else in_use,
                in_use=in_use,
                idle=backing.idle if backing is not None else 0,
                waiting=self._gate.waiting + (backing.waiting if backing is not None else 0),
                borrows=borrows,
                returns=counters.returns,
                wait=wait,
                held=counters.held.copy(),
                worked_total=counters.worked_total,
                exhausted=counters.exhausted,
                reclaimed=counters.reclaimed,
                pinned=counters.pinned,
                dead=counters.dead,
                resets=self._cleaning.resets,
                connects=self._connector.attempts,
                connect_errors=self._connector.failures,
                connect=self._connector.durations.copy(),
            )

    def _exhausted(self, cause: PoolTimeout | TooManyRequests, waiting: int) -> PoolExhausted:
        # Whoever is turned away makes sure that it isn't for connections that got lost.
        self._look_for_lost()
        with self._ledger.lock:
            self._ledger.counters.exhausted += 1
        config, leases = self.config, self.leases()
        connect_error = self._connector.last_error
        message = explain(self.alias, self.name, config, cause, leases, waiting, connect_error)
        return PoolExhausted(message, alias=self.alias, timeout=config.timeout)
