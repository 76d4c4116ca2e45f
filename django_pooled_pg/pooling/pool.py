"""Owns the pool of one alias in one process: borrow, return, close, statistics.

Knows nothing of Django's requests, and uses psycopg_pool through `backing` alone.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable
from time import monotonic

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from . import session
from .backing import AnyBacking, Backing, ConnectFailed, Connection, NullBacking
from .config import PoolConfig
from .connector import Connector, SessionOpener
from .errors import PoolExhausted
from .lease import HolderRef, Lease, describe_longest
from .reclaim import borrower
from .statistics import Counters, PoolStatistics

logger = logging.getLogger(__name__)


class Pool:
    """The connections of one alias in one process.

    `open_session` makes a new, configured server session; it runs in the pool's worker
    threads. `on_open` is called, without any lock held, each time the pool starts to work.

    Any method may be called from any thread at any time. A closed pool isn't dead: the next
    borrow opens it again.
    """

    def __init__(
        self,
        alias: str,
        config: PoolConfig,
        open_session: SessionOpener,
        on_open: Callable[[], None],
    ) -> None:
        self.alias = alias
        self.config = config
        self.name = config.name or alias
        self._open_session = open_session
        self._on_open = on_open
        self._start_empty()

    def _start_empty(self) -> None:
        # Guards everything below. Reentrant: a signal handler or a destructor may come back
        # here while its thread holds the lock. Never connect or close while holding it.
        self._lock = threading.RLock()
        self._backing: AnyBacking | None = None
        self._leases: set[Lease] = set()
        self._waiting = 0
        self._counters = Counters()
        self._connector = Connector(
            self.name, self._open_session, self.config.configure, self._fail_waiting
        )

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<Pool {self.name!r} alias={self.alias!r} size={s.size}/{s.max_size} "
            f"in_use={s.in_use} idle={s.idle} waiting={s.waiting}>"
        )

    # Borrow and return

    def borrow(self, holder: HolderRef | None = None) -> Lease:
        """Lend a connection, waiting up to `config.timeout` seconds.

        Raises `PoolExhausted` when none is free in time, and the server's own error
        (`psycopg.OperationalError`) at once when the pool can't connect and has no other
        connection to wait for.
        """
        started = monotonic()
        with self._lock:
            self._waiting += 1
        try:
            backing, connection = self._wait_for_connection(started)
        finally:
            with self._lock:
                self._waiting -= 1
        now = monotonic()
        lease = Lease(
            pool=self,
            connection=connection,
            backing=backing,
            holder=holder,
            borrower=borrower(),
            since=now,
        )
        with self._lock:
            self._leases.add(lease)
            self._counters.borrowed(now - started)
        return lease

    def _wait_for_connection(self, started: float) -> tuple[AnyBacking, Connection]:
        while True:
            backing = self._opened()
            remaining = started + self.config.timeout - monotonic()
            try:
                return backing, backing.getconn(timeout=remaining)
            except PoolClosed:
                # Somebody called close_pool() meanwhile: go on with the pool that opens next.
                continue
            except ConnectFailed as failed:
                # A copy: several borrowers may raise it at once, each with its own traceback.
                raise copy.copy(failed.error) from failed.error
            except (PoolTimeout, TooManyRequests) as ex:
                backing.forget_those_who_gave_up()
                raise self._exhausted(ex) from ex

    def give_back(self, lease: Lease) -> None:
        """Take a lent connection back. Does nothing when it came back already.

        A connection that can't be brought to a clean state is closed and replaced.
        """
        with self._lock:
            if lease not in self._leases:
                return
            self._leases.remove(lease)
            self._counters.returned(monotonic() - lease.since)
        connection = lease.connection
        if not connection.closed:
            try:
                session.restore(connection)
            except psycopg.Error as ex:
                logger.warning(
                    "Pool %r: can't clean a returned connection, closing it: %s", self.name, ex
                )
                connection.close()
        lease.backing.putconn(connection)

    def reclaim(self, who: object) -> None:
        """Take back what was lent to a thread that has ended or a holder that was collected."""
        with self._lock:
            left = [x for x in self._leases if x.borrower is who or x.holder is who]
        for lease in left:
            holder = lease.holder() if lease.holder is not None else None
            if holder is not None:
                if holder.allow_thread_sharing:
                    continue  # until nobody has it any more: then this is called again
                holder.lease_lost()
            logger.warning(
                "Pool %r: took back a connection that %s (%s) held for %.1f s and never returned. "
                "Call django.db.connection.close() before such a thread ends.",
                self.name,
                lease.borrower.name,
                lease.borrower.thread_id,
                monotonic() - lease.since,
            )
            with self._lock:
                self._counters.reclaimed += 1
            self.give_back(lease)

    # Life cycle

    def open(self, *, wait: bool = False) -> None:
        """Open up to `min_size` connections before anybody asks for them.

        In the background; with `wait`, return when they are there. `wait` raises what
        `borrow` would raise when that fails.
        """
        self._opened().fill()
        if wait:
            # Borrowing brings the server's own error; psycopg_pool's wait() only times out.
            self.give_back(self.borrow())
            try:
                self._opened().wait(self.config.timeout)
            except PoolTimeout as ex:
                raise self._exhausted(ex) from ex

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
            holder = lease.holder() if lease.holder is not None else None
            if holder is not None:
                holder.lease_lost()

    def _fail_waiting(self, error: Exception) -> None:
        if (backing := self._backing) is not None:
            backing.fail_waiting(error)

    def _opened(self) -> AnyBacking:
        with self._lock:
            if self._backing is not None:
                return self._backing
            self._backing = backing = self._make_backing()
            backing.open()
        self._on_open()
        return backing

    def _make_backing(self) -> AnyBacking:
        config = self.config
        backing_class = NullBacking if config.pool_class == "null" else Backing
        backing = backing_class(
            connection_class=self._connector,  # type: ignore[arg-type]
            min_size=config.min_size,
            max_size=config.max_size,
            open=False,
            check=config.check,
            reset=config.reset,
            name=self.name,
            timeout=config.timeout,
            max_waiting=config.max_waiting,
            max_lifetime=config.max_lifetime,
            max_idle=config.max_idle,
            reconnect_timeout=config.reconnect_timeout,
            reconnect_failed=config.reconnect_failed,
            num_workers=config.num_workers,
        )
        return backing

    # Seeing it

    def statistics(self) -> PoolStatistics:
        """Return the figures of this moment."""
        config = self.config
        with self._lock:
            backing, counters = self._backing, self._counters
            return PoolStatistics(
                alias=self.alias,
                name=self.name,
                pool_class=config.pool_class,
                min_size=config.min_size,
                max_size=config.max_size,
                size=backing.size if backing is not None else len(self._leases),
                in_use=len(self._leases),
                idle=backing.idle if backing is not None else 0,
                waiting=self._waiting,
                borrows=counters.borrows,
                returns=counters.returns,
                wait_total=counters.wait_total,
                wait_max=counters.wait_max,
                held_total=counters.held_total,
                held_max=counters.held_max,
                exhausted=counters.exhausted,
                reclaimed=counters.reclaimed,
                connects=self._connector.attempts,
                connect_errors=self._connector.failures,
            )

    def _exhausted(self, cause: PoolTimeout | TooManyRequests) -> PoolExhausted:
        with self._lock:
            self._counters.exhausted += 1
            leases, waiting = list(self._leases), self._waiting
        config = self.config
        if isinstance(cause, TooManyRequests):
            what = f"{config.max_waiting} borrowers (max_waiting) wait already"
        else:
            what = f"no connection was free within {config.timeout:g} s (timeout)"
        message = (
            f"Pool {self.name!r} in process {os.getpid()}: {what}. "
            f"{len(leases)} of {config.max_size} (max_size) connections are in use, "
            f"{waiting} borrowers wait."
        )
        if leases:
            message += f" Held longest by: {describe_longest(leases)}."
        if self._connector.last_error is not None:
            message += f" The last attempt to connect failed: {self._connector.last_error}."
        message += (
            " Hold connections for a shorter time, or raise max_size or timeout in "
            f"DATABASES[{self.alias!r}]['OPTIONS']['pool']."
        )
        return PoolExhausted(message, alias=self.alias)
