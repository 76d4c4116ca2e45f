"""A borrower's wait for a connection: at the gate, then in the backing's queue, until its timeout.

Makes no lease.
"""

from __future__ import annotations

import copy
from math import inf
from time import monotonic

from django.db import OperationalError
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from .backing.claim import ConnectFailed, NotWanted
from .backing.null import AnyBacking
from .config import Connection, PoolConfig
from .connector import Connector
from .errors import PoolExhausted
from .exhaustion import Paused, explain
from .gate import Gate
from .ledger import Ledger
from .session.check import Check
from .supply import Supply
from .work.work import Work, current

# Seconds between two checks whether the work of a borrower that waits for resume() is still wanted.
_PATIENCE = 0.2


IN_VAIN = (ConnectFailed, PoolTimeout, TooManyRequests)
"""What ends a wait without a connection."""


def cause_of(error: Exception) -> Exception:
    """Return the cause of what `Waiting.failure` returns for `error`."""
    return error.error if isinstance(error, ConnectFailed) else error


class Limits:
    """What limits one borrower's wait. Times are `time.monotonic()` readings."""

    __slots__ = ("began", "deadline", "max_waiting", "work")

    def __init__(self, started: float, config: PoolConfig) -> None:
        self.began = monotonic()
        self.work = work = current()
        deadline = started + config.timeout
        self.deadline = deadline if work is None else min(deadline, work.until)
        # 0 once it has begun, and goes on with a pool that opens after a close_pool() or pause():
        # a borrower who waits already isn't turned away because others wait.
        self.max_waiting = config.max_waiting

    def require_place(self, gate: Gate) -> None:
        """Raise `Paused` if too many wait at the gate already."""
        # Checked here, too: otherwise resume() would turn away everybody above the limit at once.
        if not gate.is_open() and 0 < self.max_waiting <= gate.waiting:
            raise Paused(full=True)

    def require_time(self) -> None:
        """Raise `Paused` or `NotWanted` if there is no reason to wait longer."""
        if monotonic() >= self.deadline:
            raise Paused()
        if self.work is not None and not self.work.is_wanted():
            raise NotWanted

    def note_waited(self) -> None:
        """Note, in the work that it belongs to, how long it took."""
        if self.work is not None:
            self.work.note_waited(monotonic() - self.began)


class Waiting:
    """Where a pool's borrowers wait, and learn that they waited in vain."""

    def __init__(
        self,
        alias: str,
        pool_name: str,
        supply: Supply,
        ledger: Ledger,
        connector: Connector,
        check: Check,
    ) -> None:
        self._alias = alias
        self._pool_name = pool_name
        self._supply = supply
        self._ledger = ledger
        self._connector = connector
        self._check = check

    def for_connection(self, started: float) -> tuple[AnyBacking, Connection]:
        """Return a connection and its backing, waiting `config.timeout` from `started` on.

        Raises what `Pool.borrow` raises.
        """
        limits = Limits(started, self._supply.config)
        while True:
            place: Gate | AnyBacking = self._supply.gate
            try:
                self._pass_gate(limits)
                place = backing = self._supply.opened()
                connection = backing.borrow(limits.deadline - monotonic())
            except PoolClosed:
                limits.max_waiting = 0
            except IN_VAIN as ex:
                raise self.failure(ex, place.waiting, limits) from cause_of(ex)
            else:
                limits.note_waited()
                return backing, connection

    def failure(self, error: Exception, waiting: int, limits: Limits) -> Exception:
        """Return what to raise when one of `IN_VAIN` has ended a wait."""
        if isinstance(error, ConnectFailed):
            # A copy: several borrowers may raise it at once, each with its own traceback.
            return copy.copy(error.error)
        assert isinstance(error, (PoolTimeout, TooManyRequests))
        if limits.work is None or limits.work.is_wanted():
            return self.exhausted(error, waiting)
        return self._unwanted(limits.work, limits.began)

    def require_wanted(self, since: float) -> None:
        """Raise what `for_connection` raises if the caller's work isn't wanted any more.

        The caller has waited since `since`.
        """
        if (work := current()) is not None and not work.is_wanted():
            raise self._unwanted(work, since) from NotWanted()

    def _unwanted(self, work: Work, began: float) -> OperationalError:
        work.note_waited(monotonic() - began)
        what = "it no longer waits for a connection"
        return work.error(self._connector.stops, what, waiting=True)

    def _pass_gate(self, limits: Limits) -> None:
        gate = self._supply.gate
        limits.require_place(gate)
        # Nobody wakes a borrower here when its work is no longer wanted.
        patience = inf if limits.work is None else _PATIENCE
        while not gate.pass_through(min(limits.deadline - monotonic(), patience)):
            limits.require_time()

    def exhausted(self, cause: PoolTimeout | TooManyRequests, waiting: int) -> PoolExhausted:
        """Count a borrower that gets nothing; return the error that says why."""
        with self._ledger.lock:
            self._ledger.counters.exhausted += 1
        config, leases = self._supply.config, self._ledger.open_leases()
        connect_error = self._connector.last_error
        member = self._supply.member
        budget = member.describe() if member is not None else ""
        message = explain(
            self._alias,
            self._pool_name,
            config,
            cause,
            leases,
            waiting,
            connect_error,
            budget,
            self._check.refusal_within(config.timeout),
        )
        return PoolExhausted(message, alias=self._alias, timeout=config.timeout)
