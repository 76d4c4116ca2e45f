"""Borrows for a task as `Pool.borrow` does for a thread. Nothing here blocks the event loop."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic

from psycopg_pool import PoolClosed

from ..backing.null import AnyBacking
from ..config import Connection
from ..gate import Gate
from ..lease import HolderRef, Lease
from ..pool import Pool
from ..session.session import session_of
from ..waiting import IN_VAIN, Limits, cause_of
from ..waits import telling
from .borrower import TaskBorrower
from .claim import TaskClaim
from .errand import in_thread
from .use import TaskUse

# Seconds between two looks at a closed gate.
_LOOK_EVERY = 0.05


async def borrow(pool: Pool, holder: HolderRef, who: TaskBorrower) -> Lease:
    """Lend the task a connection that is alive, waiting up to `config.timeout` seconds.

    Raises what `Pool.borrow` raises. The session belongs to a thread until `TaskUse.begin_task()`.
    """
    started = now = monotonic()
    while True:
        lease = _lend_idle(pool, holder, who, now)
        if lease is None:
            with telling(pool):
                lease = await _lend_awaited(pool, started, holder, who)
        if await _is_fit(pool, lease) and not lease.session.given_up:
            return lease
        pool.supply.drop_dead(lease, pool.check.is_unwanted)
        pool.waiting.require_wanted(since=lease.since)
        now = monotonic()


def _lend_idle(pool: Pool, holder: HolderRef, who: TaskBorrower, now: float) -> Lease | None:
    ledger = pool.ledger
    with ledger.lock:
        backing = ledger.backing
        if backing is None or (connection := backing.take_idle()) is None:
            return None
        lease = _lease(pool, backing, connection, holder, who, now)
        ledger.leases.add(lease)
        return lease


async def _lend_awaited(pool: Pool, started: float, holder: HolderRef, who: TaskBorrower) -> Lease:
    ledger = pool.ledger
    while True:
        backing, connection = await _connection(pool, started)
        now = monotonic()
        with ledger.lock:
            # It is given up if this borrower was taken for gone meanwhile.
            if not session_of(connection).given_up:
                lease = _lease(pool, backing, connection, holder, who, now)
                ledger.leases.add(lease)
                ledger.counters.waits.add(now - started)
                return lease


def _lease(
    pool: Pool,
    backing: AnyBacking,
    connection: Connection,
    holder: HolderRef,
    who: TaskBorrower,
    now: float,
) -> Lease:
    session = session_of(connection)
    return Lease(pool, connection, session, TaskUse(session), backing, holder, who, now)


async def _connection(pool: Pool, started: float) -> tuple[AnyBacking, Connection]:
    """Return a connection and its backing, as `Waiting.for_connection` does."""
    waiting, supply = pool.waiting, pool.supply
    limits = Limits(started, supply.config)
    while True:
        place: Gate | AnyBacking = supply.gate
        try:
            await _pass_gate(supply.gate, limits)
            backing = pool.ledger.backing
            if backing is None:
                # Opening takes time, and notifies listeners.
                backing = await in_thread(supply.opened)
            place = backing
            connection = await _from_backing(backing, limits.deadline - monotonic())
        except PoolClosed:
            limits.max_waiting = 0
        except IN_VAIN as ex:
            raise waiting.failure(ex, place.waiting, limits) from cause_of(ex)
        else:
            limits.note_waited()
            return backing, connection


async def _pass_gate(gate: Gate, limits: Limits) -> None:
    limits.require_place(gate)
    if gate.is_open():
        return
    turn = threading.Lock()
    turn.acquire()
    try:
        gate.enter(turn)
        while not (gate.is_open() or turn.acquire(blocking=False)):
            await asyncio.sleep(_LOOK_EVERY)
            limits.require_time()
    finally:
        gate.leave(turn)


async def _from_backing(backing: AnyBacking, timeout: float) -> Connection:
    opens = backing.opener()
    if opens is not None:
        return await in_thread(lambda: opens(timeout), undo=backing.put)
    claim = TaskClaim()
    try:
        connection = backing.take_or_queue(claim, timeout)
        if connection is None:
            connection = await claim.arrive(timeout)
    except BaseException:
        if not claim.is_inherited():  # the parent's lock may stay locked
            backing.leave_queue(claim)
        raise
    backing.lend(connection)
    return connection


async def _is_fit(pool: Pool, lease: Lease) -> bool:
    check, session, now = pool.check, lease.session, lease.since
    fit = check.is_fit_at_once(session, now)
    if fit is not None:
        return fit

    def ask() -> bool:
        try:
            return check.is_fit(lease.connection, session, now)
        except BaseException:
            pool.give_back(lease)
            raise

    def undo(fit: bool) -> None:
        if fit:
            pool.give_back(lease)
        else:
            pool.supply.drop_dead(lease, check.is_unwanted)

    # The holder lives on as long as the thread asks: else the lease would be reclaimed meanwhile.
    return await in_thread(ask, undo, keeps=lease.living_holder())
