"""What both kinds of psycopg_pool get from us; decides nothing about leases.

With `claim.py`, `sharing.py`, `workers.py`, `pool.py` and `null.py`, this is all that relies on
psycopg_pool's private names. Read against psycopg_pool 3.3.3. `tests/pooling/backing/test_base.py`
fails if one of these names moves. What each is for:

- `_start_initial_tasks`, `_nconns`, `_growing`, `_maybe_grow_pool`: connect when somebody asks, one
  connection for one borrower (psycopg_pool opens a second one for the first borrower).
- `_add_connection`, `AttemptWithBackoff`: a backoff that stays short.
- `_waiting`, `_get_ready_connection`, `_check_open_getconn`, `WaitingClient`, `ReturnConnection`:
  give those who wait the server's own error; forget those who gave up.
- `_lock`: replaced by the pool's own. Reentrant: while its thread holds it, the garbage collector
  may find a forgotten cursor, whose connection then comes back.
- `_pool`: count and sweep idle connections, lend and put without a detour; also the
  attribute of a connection that is lent.
- `_expire_at`, `_created_at` (of a connection), `_drained_at`, `_pool_full_event`: put what
  needs no further thought; find what is too old, or too new to be given up to others.
- `_nconns_min`: the fewest idle ones lately. `MaintenanceTask`: do our work in its workers.
- `_closed`: disarm a pool inherited over a fork. `_tasks`, `_start_workers`, `_workers`, `pool` (of
  a task): a queue of our own, and no more workers than needed.
- `StopWorker`, `_sched` and its `enter`: end threads that an interrupted close has left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from psycopg_pool import ConnectionPool
from psycopg_pool.pool import ReturnConnection, StopWorker

from ..config import Connection
from .claim import Claim, ConnectFailed
from .workers import Call, Tasks

logger = logging.getLogger(__name__)


class BaseBacking(ConnectionPool[Connection]):
    """What both kinds of psycopg_pool get from us."""

    # Whether those who wait for a pool to open have been told that this one is open.
    announced = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What workers do, or will do, with connections. Guarded by the lock.
        self._calls: WeakSet[Call] = WeakSet()

    @property
    def idle(self) -> int:
        return len(self._pool)

    def idle_connections(self) -> list[Connection]:
        with self._lock:
            return list(self._pool)

    def expired(self, now: float) -> list[Connection]:
        """Return the idle connections that are past `max_lifetime`, the oldest first."""
        found = [each for each in self.idle_connections() if each._expire_at <= now]
        return sorted(found, key=lambda connection: connection._expire_at)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Connections idle, lent, being opened and being reset."""
        return self._nconns

    def fail_waiting(self, error: Exception) -> None:
        """Raise `error` in every borrower that waits now."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for client in waiting:
            client.fail(ConnectFailed(error))

    def drop(self, connection: Connection) -> None:
        """Close a lent connection, and stop counting it."""
        with self._lock:
            if self._take_off(connection):
                self._nconns -= 1
                if self._waiting:
                    self._maybe_grow_pool()
        connection.close()

    def _take_off(self, connection: Connection) -> bool:
        """Note that a connection is no longer lent; tell whether it was.

        If it wasn't, somebody has given it up meanwhile: it must not be counted twice.
        """
        if getattr(connection, "_pool", None) is not self:
            return False
        connection._pool = None
        return True

    def take_idle_if(self, wanted: Callable[[Connection], bool]) -> list[Connection]:
        """Lend the idle connections that are wanted; each must be put back or dropped.

        `wanted` is called with the lock held, so it must not wait.
        """
        with self._lock:
            return self._take_idle_if(wanted)

    def _take_idle_if(self, wanted: Callable[[Connection], bool]) -> list[Connection]:
        taken = [connection for connection in self._pool if wanted(connection)]
        for connection in taken:
            connection._pool = self
            self._pool.remove(connection)
        self._nconns_min = min(self._nconns_min, len(self._pool))
        return taken

    def put(self, connection: Connection) -> None:
        """Put back a lent connection, in psycopg_pool's way: closed ones are replaced.

        If the pool was made smaller and this one is surplus, it is closed.
        """
        with self._lock:
            if getattr(connection, "_pool", None) is not self:
                return  # somebody has given it up meanwhile
            # Counted here, so that of two that return at once, only one is taken for the surplus.
            surplus = 0 < self._max_size < self._nconns
            self._nconns -= surplus
            if surplus:
                connection._pool = None
        if surplus:
            connection.close()
        else:
            self.putconn(connection)

    def resize_to(self, min_size: int, max_size: int) -> list[Connection]:
        """Change the limits; return the surplus idle connections, to be closed.

        They are no longer counted.
        """
        with self._lock:
            self._min_size, self._max_size = min_size, max_size
            too_much = max(0, self._nconns - max_size)
            surplus = [self._pool.popleft() for _ in range(min(len(self._pool), too_much))]
            self._nconns -= len(surplus)
            self._nconns_min = min(self._nconns_min, len(self._pool))
            if self._waiting:
                self._maybe_grow_pool()
        return surplus

    def in_worker(self, function: Callable[[], None], connection: Connection) -> bool:
        """Call `function` in a worker thread; if the pool is closed, return `False` instead.

        It works on `connection`, which `with_workers` includes until it is done.
        """
        # With the lock held: workers still run what comes before close().
        with self._lock:
            if self._closed:
                return False
            call = Call(self, function, connection)
            self._calls.add(call)
            self.run_task(call)
            return True

    def reconnect_failed(self) -> None:
        """Call the site's callback; the worker must survive whatever that raises."""
        try:
            super().reconnect_failed()
        except BaseException:
            logger.exception("Pool %r: 'reconnect_failed' raised", self.name)

    def borrow(self, timeout: float) -> Connection:
        """Return a connection, waiting up to `timeout` seconds for it.

        Replaces psycopg_pool's `getconn`, which counts and logs what is counted elsewhere.
        Raises what that raises, and `ConnectFailed`.
        """
        claim = Claim()
        try:
            connection = self.take_or_queue(claim, timeout)
            if connection is None:
                connection = claim.wait(timeout)
        except BaseException:
            self.leave_queue(claim)
            raise
        self.lend(connection)
        return connection

    def take_or_queue(self, claim: Claim, timeout: float) -> Connection | None:
        """Return an idle connection; `None` if there is none: then the claim is in the queue.

        Raises what psycopg_pool's `getconn` raises, and doesn't wait.
        """
        with self._lock:
            # Here, and no earlier: nobody is served in the queue of a pool that was closed.
            self._check_open_getconn()
            connection = self._get_ready_connection(timeout)
            if connection is None:
                self._waiting.append(claim)
                self._maybe_grow_pool()
                # One came back in this thread, between the lines above, and none for this claim.
                if self._pool and claim.is_running():
                    self._waiting.remove(claim)
                    connection = self._pool.popleft()
            return connection

    def leave_queue(self, claim: Claim) -> None:
        """Forget a claim whose borrower no longer waits; put back what it was handed."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(claim)
        if (left := claim.abandon()) is not None:
            self.run_task(ReturnConnection(self, left, from_getconn=True))

    def opener(self) -> Callable[[float], Connection] | None:
        """Return a function that opens a connection within a time limit, if a borrower has to.

        It has a place reserved then, so the borrower must call it.
        """
        return None

    def lend(self, connection: Connection) -> None:
        """Note that a connection was handed to a borrower, so it is lent."""
        # Set only while it is lent: for the pool it would be a reference cycle.
        connection._pool = self

    def _maybe_grow_pool(self) -> None:
        # In a worker, which no interrupt reaches: an interrupt between counting a connection and
        # starting to open it would count it forever.
        if self._nconns < self._max_size and not self._growing:
            self.run_task(Call(self, self._grow))

    def make_one_more(self) -> None:
        """Start to open a connection, in the background, if there may be one more."""
        with self._lock:
            self._maybe_grow_pool()

    def _grow(self) -> None:
        with self._lock:
            super()._maybe_grow_pool()

    def with_workers(self) -> set[Connection]:
        """Return the connections that workers have, or will have."""
        # No flag on the connection: an interrupt could make it wrong.
        found = {call.connection for call in self.calls()}
        return {connection for connection in found if connection is not None}

    def calls(self) -> list[Call]:
        """Return what workers do, or will do, with connections."""
        with self._lock:
            calls = list(self._calls)
        return [call for call in calls if not call.is_done]

    def _start_workers(self) -> None:
        self._tasks = Tasks()  # type: ignore[assignment]  # has what they use of a Queue
        # The first one hires the others.
        most, self.num_workers = self.num_workers, 1
        super()._start_workers()
        self.num_workers = most

    def end_threads(self) -> None:
        """Finish a close() that an interrupt has ended. May wait for long."""
        self.close()
        self._sched.enter(0, None)
        # One for each worker, since nobody knows which of them were told already; surplus ones stay
        # in a queue that is forgotten.
        for _ in range(self.num_workers):
            self.run_task(StopWorker(self))

    def is_making(self) -> bool:
        """Tell whether it may be opening a connection, or about to."""
        return self._growing or bool(self._tasks.qsize())

    def correct_size(self, lost: int) -> None:
        """Stop counting connections that nobody has. Called with the lock held."""
        self._nconns -= lost
        if self._waiting:
            self._maybe_grow_pool()

    def runs_in_own_worker(self) -> bool:
        return threading.current_thread() in self._workers

    def disarm(self) -> None:
        """In a forked child: make sure that nothing of the parent's pool acts here.

        Otherwise `__del__` would take locks that a thread of the parent may have held
        at the fork, and wait for worker threads that don't exist here.
        """
        self._opened = self._closed = True
