"""Owns a borrower's wait for a connection: past the gate, in the backing's queue, until its timeout.

Makes no lease.
"""

from __future__ import annotations

import copy
from time import monotonic

from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from .backing.claim import ConnectFailed
from .backing.null import AnyBacking
from .config import Connection
from .connector import Connector
from .errors import PoolExhausted
from .exhaustion import Paused, explain
from .ledger import Ledger
from .supply import Supply


class Waiting:
    """Where borrowers of one pool wait, and are told when they waited in vain."""

    def __init__(
        self, alias: str, pool_name: str, supply: Supply, ledger: Ledger, connector: Connector
    ) -> None:
        self._alias = alias
        self._pool_name = pool_name
        self._supply = supply
        self._ledger = ledger
        self._connector = connector

    def for_connection(self, started: float) -> tuple[AnyBacking, Connection]:
        """Return a connection and where it is from, waiting `config.timeout` from `started` on.

        Raises what `Pool.borrow` raises.
        """
        config = self._supply.config
        deadline, max_waiting = started + config.timeout, config.max_waiting
        while True:
            self._pass_gate(deadline, max_waiting)
            try:
                backing = self._supply.opened()
                return backing, backing.borrow(deadline - monotonic())
            except PoolClosed:
                # Somebody called close_pool() or pause() meanwhile: go on with the pool that opens
                # next. Whoever waits already isn't turned away for others who wait.
                max_waiting = 0
            except ConnectFailed as failed:
                # A copy: several borrowers may raise it at once, each with its own traceback.
                raise copy.copy(failed.error) from failed.error
            except (PoolTimeout, TooManyRequests) as ex:
                raise self.exhausted(ex, waiting=backing.waiting) from ex

    def _pass_gate(self, deadline: float, max_waiting: int) -> None:
        gate = self._supply.gate
        # Here, too: else those who are too many would be turned away all at once by resume().
        if not gate.is_open() and 0 < max_waiting <= gate.waiting:
            raise self.exhausted(Paused(full=True), waiting=gate.waiting)
        if not gate.pass_through(deadline - monotonic()):
            raise self.exhausted(Paused(), waiting=gate.waiting)

    def exhausted(self, cause: PoolTimeout | TooManyRequests, waiting: int) -> PoolExhausted:
        """Count a borrower that gets nothing; return the error that tells it why."""
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
