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
from .config import Connection
from .connector import Connector
from .errors import PoolExhausted
from .exhaustion import Paused, explain
from .gate import Gate
from .ledger import Ledger
from .supply import Supply
from .work.work import Work, current

# Seconds between two checks whether the work of a borrower that waits for resume() is still wanted.
_PATIENCE = 0.2


class Waiting:
    """Where a pool's borrowers wait, and learn that they waited in vain."""

    def __init__(
        self, alias: str, pool_name: str, supply: Supply, ledger: Ledger, connector: Connector
    ) -> None:
        self._alias = alias
        self._pool_name = pool_name
        self._supply = supply
        self._ledger = ledger
        self._connector = connector

    def for_connection(self, started: float) -> tuple[AnyBacking, Connection]:
        """Return a connection and its backing, waiting `config.timeout` from `started` on.

        Raises what `Pool.borrow` raises.
        """
        config, began = self._supply.config, monotonic()
        deadline, max_waiting = started + config.timeout, config.max_waiting
        if (work := current()) is not None:
            deadline = min(deadline, work.until)
        while True:
            place: Gate | AnyBacking = self._supply.gate
            try:
                self._pass_gate(deadline, max_waiting, work)
                place = backing = self._supply.opened()
                connection = backing.borrow(deadline - monotonic())
            except PoolClosed:
                # Somebody called close_pool() or pause() meanwhile: go on with the pool that opens
                # next. A borrower who waits already isn't turned away because others wait.
                max_waiting = 0
            except ConnectFailed as failed:
                # A copy: several borrowers may raise it at once, each with its own traceback.
                raise copy.copy(failed.error) from failed.error
            except (PoolTimeout, TooManyRequests) as ex:
                if work is None or work.is_wanted():
                    raise self.exhausted(ex, waiting=place.waiting) from ex
                raise self._unwanted(work, began) from ex
            else:
                if work is not None:
                    work.note_waited(monotonic() - began)
                return backing, connection

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

    def _pass_gate(self, deadline: float, max_waiting: int, work: Work | None) -> None:
        gate = self._supply.gate
        # Checked here, too: otherwise resume() would turn away everybody above the limit at once.
        if not gate.is_open() and 0 < max_waiting <= gate.waiting:
            raise Paused(full=True)
        # Nobody wakes a borrower here when its work is no longer wanted.
        patience = inf if work is None else _PATIENCE
        while not gate.pass_through(min(deadline - monotonic(), patience)):
            if monotonic() >= deadline:
                raise Paused()
            if work is not None and not work.is_wanted():
                raise NotWanted

    def exhausted(self, cause: PoolTimeout | TooManyRequests, waiting: int) -> PoolExhausted:
        """Count a borrower that gets nothing; return the error that says why."""
        with self._ledger.lock:
            self._ledger.counters.exhausted += 1
        config, leases = self._supply.config, self._ledger.open_leases()
        connect_error = self._connector.last_error
        member = self._supply.member
        budget = member.describe() if member is not None else ""
        message = explain(
            self._alias, self._pool_name, config, cause, leases, waiting, connect_error, budget
        )
        return PoolExhausted(message, alias=self._alias, timeout=config.timeout)
