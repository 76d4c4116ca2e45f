"""The psycopg_pool that keeps nothing, for `"class": "null"`; and the choice between the two.

Uses the private names that `base.py` lists, and of `NullConnectionPool` also
`_get_ready_connection`, `_connect` and `AddConnection`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg.errors import ConnectionTimeout
from psycopg_pool import ConnectionPool, NullConnectionPool, PoolTimeout, TooManyRequests
from psycopg_pool.base import AttemptWithBackoff
from psycopg_pool.pool import AddConnection

from ..config import Connection, PoolConfig
from .pool import Backing, ShortBackoff
from .sharing import SharingBacking
from .versions import check_pool

if TYPE_CHECKING:
    from .slots import Slot, Slots


class NullBacking(SharingBacking, NullConnectionPool[Connection]):
    """A `NullConnectionPool`: it limits and queues, but keeps no idle connection."""

    def borrow(self, timeout: float) -> Connection:
        """Connect if there may be one more; otherwise wait for one that comes back.

        psycopg_pool connects with its lock held: while a server doesn't answer, each borrower
        would wait for all those before it. Raises what `Backing.borrow` raises, and whatever the
        server says.
        """
        opens = self.opener()
        return super().borrow(timeout) if opens is None else opens(timeout)

    def opener(self) -> Callable[[float], Connection] | None:
        slots = self.slots
        with self._lock:
            self._check_open_getconn()
            room = self.max_size == 0 or self._nconns < self.max_size
            # Not a new slot, which an interrupt here could lose: a worker gets those.
            slot = slots.take_spare() if room and slots is not None else None
            room = room and (slot is not None or slots is None)
            self._nconns += room
        return partial(self._open_for_borrower, slot) if room else None

    def _open_for_borrower(self, slot: Slot | None, timeout: float) -> Connection:
        slots = self.slots
        try:
            connection = self._connect(timeout=timeout)
        except ConnectionTimeout as ex:
            self._no_connection(ex)
            raise PoolTimeout(str(ex)) from ex
        except BaseException as ex:
            self._no_connection(ex)
            raise
        finally:
            if slot is not None and slots is not None:
                slots.settle(slot)
        self.lend(connection)
        return connection

    def _no_connection(self, error: BaseException) -> None:
        with self._lock:
            self._nconns -= 1
            alone = not self._nconns
            if self._waiting and not alone:
                self._maybe_grow_pool()
        if alone and isinstance(error, Exception):
            # Nobody will return one to those who wait.
            self.fail_waiting(error)

    def _add_connection(self, attempt: AttemptWithBackoff | None, growing: bool = False) -> None:
        if self.slots is not None and attempt is None:
            attempt = ShortBackoff(timeout=self.reconnect_timeout)
        super()._add_connection(attempt, growing)

    def _get_ready_connection(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0.0:
            raise PoolTimeout()
        if self.max_waiting and len(self._waiting) >= self.max_waiting:
            raise TooManyRequests(f"{len(self._waiting)} borrowers wait already")

    def take_idle(self) -> None:
        """There are no idle ones."""

    def put_clean(self, connection: Connection, now: float) -> bool:
        return False

    def fill(self) -> None:
        """There is nothing to fill."""

    def drop(self, connection: Connection) -> None:
        """Close a lent connection, and open one in its place if somebody waits."""
        with self._lock:
            if self._take_off(connection):
                # At once; pools otherwise grow one connection at a time.
                if self._waiting and not 0 < self._max_size < self._nconns:
                    self.run_task(AddConnection(self))
                else:
                    self._nconns -= 1
        connection.close()

    def _grow(self) -> None:
        # psycopg_pool's null pools never grow: if room appears (the limit was raised, a connection
        # was dropped), those who wait would still wait for the next return.
        with self._lock:
            if self._waiting:
                ConnectionPool._maybe_grow_pool(self)


AnyBacking: TypeAlias = Backing | NullBacking


def make_backing(
    name: str,
    config: PoolConfig,
    connector: Any,
    lock: threading.RLock,
    slots: Slots | None = None,
) -> AnyBacking:
    """Make a pool that isn't open yet; it connects by calling `connector.connect`."""
    backing = (NullBacking if config.pool_class == "null" else Backing)(
        connection_class=connector,
        min_size=config.min_size,
        max_size=config.max_size,
        open=False,
        name=name,
        timeout=config.timeout,
        max_waiting=config.max_waiting,
        max_lifetime=config.max_lifetime,
        max_idle=config.max_idle,
        reconnect_timeout=config.reconnect_timeout,
        reconnect_failed=config.reconnect_failed,
        num_workers=config.num_workers,
    )
    check_pool(backing)
    backing._lock = lock
    backing.slots = slots
    return backing
