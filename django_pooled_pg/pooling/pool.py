"""Owns the pool of one alias in one process: borrow, return, close, statistics.

Knows nothing of Django's requests, and uses psycopg_pool through `backing` alone.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from . import reclaim
from .backing import AnyBacking, ConnectFailed, Connection, make_backing
from .cleaning import Cleaning
from .config import PoolConfig
from .connector import Connector, SessionMaker
from .errors import PoolExhausted
from .exhaustion import explain
from .housekeeping import Housekeeping
from .lease import HolderRef, Lease
from .reclaim import borrower
from .session import Session, end_cursors, is_clean, session_of
from .statistics import Counters, PoolStatistics
from .vetting import Vetting

logger = logging.getLogger(__name__)


class Pool:
    """The connections of one alias in one process.

    `make` makes server sessions, in the pool's worker threads. `on_open` is called, without
    any lock held, each time the pool starts to work.

    Any method may be called from any thread at any time. A closed pool isn't dead: the next
    borrow opens it again.
    """

    def __init__(
        self,
        alias: str,
        config: PoolConfig,
        make: SessionMaker,
        on_open: Callable[[], None],
    ) -> None:
        self.alias = alias
        self.config = config
        self.name = config.name or alias
        self._make = make
        self._on_open = on_open
        self._vetting = Vetting(config)
        self._start_empty()

    def _start_empty(self) -> None:
        # Guards everything below. Reentrant: a signal handler or a destructor may come back
        # here while its thread holds the lock. Never connect or close while holding it.
        self._lock = threading.RLock()
        self._backing: AnyBacking | None = None
        self._leases: set[Lease] = set()
        self._counters = Counters()
        self._connector = Connector(
            self.name, self._make, self.config.configure, self._fail_waiting
        )
        self._cleaning = Cleaning(self.name, self.config, self._connector.configure_again)
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
        try:
            while True:
                backing = self._backing
                connection = backing.borrow_idle() if backing is not None else None
                if backing is None or connection is None:
                    backing, connection = self._wait_for_connection(started)
                    now = monotonic()
                if not self._vetting.is_fit(connection, now):
                    self._drop_dead(backing, connection)
                    continue
                session = session_of(connection)
                lease = Lease(self, connection, session, backing, holder, borrower(), now)
                with self._lock:
                    # It is when drop_stray() took this borrower for gone.
                    if not session.given_up:
                        self._leases.add(lease)
                        self._counters.borrows += 1
                        if now is not started:
                            self._counters.waited(now - started)
                        return lease
        except (Error, psycopg.Error, ImproperlyConfigured):
            raise
        except BaseException:
            self._look_for_lost()
            raise

    def _wait_for_connection(self, started: float) -> tuple[AnyBacking, Connection]:
        while True:
            backing = self._opened()
            remaining = started + self.config.timeout - monotonic()
            try:
                return backing, backing.borrow(remaining)
            except PoolClosed:
                # Somebody called close_pool() meanwhile: go on with the pool that opens next.
                continue
            except ConnectFailed as failed:
                # A copy: several borrowers may raise it at once, each with its own traceback.
                raise copy.copy(failed.error) from failed.error
            except (PoolTimeout, TooManyRequests) as ex:
                raise self._exhausted(ex, backing) from ex

    def _drop_dead(self, backing: AnyBacking, connection: Connection) -> None:
        # Whatever ended this session probably ended others: look at all idle ones now, rather
        # than let one borrower after the other find them.
        backing.drop(connection)
        dead = backing.take_idle(unwanted=self._vetting.is_unwanted)
        for other in dead:
            other.close()
        backing.fill()
        with self._lock:
            self._counters.dead += 1 + len(dead)
        logger.info("Pool %r: dropped %d dead connections", self.name, 1 + len(dead))

    def give_back(
        self, lease: Lease, *, looks_clean: bool = False, reclaimed: bool = False
    ) -> None:
        """Take a lent connection back. Does nothing when it came back already.

        What the borrower left behind is cleaned up in the background. A connection that can't
        be cleaned is closed and replaced. `looks_clean`: `is_clean` has just said so.
        """
        now = monotonic()
        held = now - lease.since
        counters = self._counters
        with self._lock:
            if lease not in self._leases:
                return
            self._leases.remove(lease)
            counters.returns += 1
            counters.held_total += held
            if held > counters.held_max:
                counters.held_max = held
            if reclaimed:
                counters.reclaimed += 1
        connection, session = lease.connection, lease.session
        try:
            session.watcher = None
            if session.open_cursors:
                end_cursors(session)
            if session.refused_to_write:
                self._heed_refused_write(connection, session)
            clean = looks_clean and self._cleaning.only_where_needed
            if clean or not self._cleaning.is_needed(connection, session):
                session.idle_since = now
                lease.backing.put_idle(connection, now)
            else:
                self._cleaning.put_back(lease.backing, connection)
        except BaseException:
            self._look_for_lost()
            raise

    def give_back_early(self, lease: Lease) -> bool:
        """Take a lent connection back while its borrower may yet go on with another one.

        Returns `False` when that would show, because the session holds state: then the lease
        is pinned.
        """
        if is_clean(lease.connection, lease.session):
            self.give_back(lease, looks_clean=True)
            return True
        if not lease.pinned:
            with self._lock:
                lease.pinned = True
                self._counters.pinned += 1
        return False

    def _heed_refused_write(self, connection: Connection, session: Session) -> None:
        session.refused_to_write = False
        if self._vetting.suspect(session):
            logger.warning(
                "Pool %r: the server refused to write; all connections are checked", self.name
            )
            connection.close()

    # For housekeeping

    def leases(self) -> list[Lease]:
        """Return the open leases."""
        with self._lock:
            return list(self._leases)

    def strays(self) -> set[Connection]:
        """Return the connections that nobody has: not idle, not in a holder's lease, not cleaned.

        Those on their way from one to the other are among them.
        """
        with self._lock:
            backing = self._backing
            idle = backing.idle_connections() if backing is not None else []
            held = [lease.connection for lease in self._leases if lease.is_held()]
            strays = self._connector.alive().difference(idle, held)
            return {c for c in strays if not session_of(c).in_cleaning}

    def drop_stray(self, connection: Connection) -> None:
        """Close a connection that an interrupt left without anybody who has it."""
        # All of it with the lock: a borrower that has it after all sees that it is closed.
        with self._lock:
            backing = self._backing
            if connection not in self.strays():
                return
            logger.warning("Pool %r: an interrupt had lost a connection; closed it", self.name)
            for lease in [x for x in self._leases if x.connection is connection]:
                self._leases.remove(lease)
                backing = lease.backing
            self._counters.reclaimed += 1
            session_of(connection).given_up = True
            if backing is not None:
                backing.drop(connection)

    def _look_for_lost(self) -> None:
        self.housekeeping.look_for_lost()
        reclaim.wake()

    # Life cycle

    def open(self, *, wait: bool = False) -> None:
        """Open up to `min_size` connections before anybody asks for them.

        In the background; with `wait`, return when they are there. `wait` raises what
        `borrow` would raise when that fails.
        """
        backing = self._opened()
        backing.fill()
        if wait:
            # Borrowing brings the server's own error; psycopg_pool's wait() only times out.
            self.give_back(self.borrow())
            try:
                backing.wait(self.config.timeout)
            except PoolTimeout as ex:
                raise self._exhausted(ex, backing) from ex

    def close(self, timeout: float = 5.0) -> None:
        """Close idle connections now and lent ones when they return.

        Those who wait for a connection go on waiting and, like the next borrower, get one
        of the pool as it opens again. Waits up to `timeout` seconds for a connection that is
        being made. Safe from any thread at any time.
        """
        with self._lock:
            backing, self._backing = self._backing, None
        if backing is None:
            return
        if backing.runs_in_own_worker():
            # A callback (`configure`, ...) closes the pool: its thread can't wait for itself.
            threading.Thread(target=backing.close, args=(timeout,), daemon=True).start()
        else:
            backing.close(timeout)

    def drain(self) -> None:
        """Replace all connections by new ones: idle ones now, lent ones when they return."""
        with self._lock:
            backing = self._backing
        if backing is not None:
            backing.drain()

    def forget_inherited(self) -> None:
        """In a forked child: start empty, and leave the parent's connections alone."""
        # No lock: this is the child's only thread, and a thread that isn't here may have
        # held it at the fork.
        leases, backing = list(self._leases), self._backing
        self._connector.detach_all()
        if backing is not None:
            backing.disarm()
        for lease in leases:
            lease.backing.disarm()
        self._start_empty()
        for lease in leases:
            if (holder := lease.living_holder()) is not None:
                holder.lease_lost()

    def _fail_waiting(self, error: Exception) -> None:
        if (backing := self._backing) is not None:
            backing.fail_waiting(error)

    def _opened(self) -> AnyBacking:
        with self._lock:
            if self._backing is not None:
                return self._backing
            self._backing = backing = make_backing(self.name, self.config, self._connector)
            backing.open()
        self._on_open()
        return backing

    # Seeing it

    def statistics(self) -> PoolStatistics:
        """Return the figures of this moment."""
        config = self.config
        with self._lock:
            backing = self._backing
            return PoolStatistics(
                alias=self.alias,
                name=self.name,
                pool_class=config.pool_class,
                min_size=config.min_size,
                max_size=config.max_size,
                size=backing.size if backing is not None else len(self._leases),
                in_use=len(self._leases),
                idle=backing.idle if backing is not None else 0,
                waiting=backing.waiting if backing is not None else 0,
                **asdict(self._counters),
                resets=self._cleaning.resets,
                connects=self._connector.attempts,
                connect_errors=self._connector.failures,
            )

    def _exhausted(
        self, cause: PoolTimeout | TooManyRequests, backing: AnyBacking
    ) -> PoolExhausted:
        # Whoever is turned away makes sure that it isn't for connections that got lost.
        self._look_for_lost()
        with self._lock:
            self._counters.exhausted += 1
        config, leases = self.config, self.leases()
        connect_error = self._connector.last_error
        message = explain(
            self.alias, self.name, config, cause, leases, backing.waiting, connect_error
        )
        return PoolExhausted(message, alias=self.alias, timeout=config.timeout)
