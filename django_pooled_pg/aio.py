"""`connection()` lends the current task an asynchronous connection from an alias's pool."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, cast
from weakref import ref

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, InterfaceError, connections
from django.db.backends.signals import connection_created
from psycopg.pq import TransactionStatus

from . import request_scope
from .announcing import connection_borrowed
from .pooling.lease import HolderRef, Lease
from .pooling.pool import Pool
from .pooling.process import borrowers
from .pooling.session.cancel import hang_up
from .pooling.session.liveness import ANSWER_LIMIT
from .pooling.tasks.borrow import borrow
from .pooling.tasks.borrower import TaskBorrower
from .pooling.tasks.errand import in_loop, in_thread, to_its_end
from .pooling.tasks.use import TaskUse

logger = logging.getLogger(__name__)

# Seconds that the end of a block waits for other users of its connection.
_PATIENCE = 0.5
# Seconds between two looks.
_LOOK_EVERY = 0.005


class connection:
    """Lend the current task a `psycopg.AsyncConnection` from an alias's pool::

        async with aio.connection() as connection:
            cursor = await connection.execute("SELECT title FROM books WHERE id = %s", [7])
            title = (await cursor.fetchone())[0]

    It comes from the same pool that threads borrow from: the same limits, queue, and figures. It is
    in autocommit mode, like Django's connections; with `atomic` the block is one transaction, which
    is committed at its end or, if an exception leaves the block, rolled back. The connection goes
    back at the end of the block; anything kept is useless then. Each block has its own connection,
    and shares a transaction with nothing else: neither with Django's ORM nor with a block around
    it.

    Canceling the task also cancels its running statement in the server.

    A transaction that can't be committed raises `psycopg.errors.InFailedSqlTransaction` (a statement
    in it had failed) or `psycopg.OperationalError` (its connection is lost).

    Raises what Django's connection raises when it connects: `PoolExhausted`, or the server's error
    as `django.db.OperationalError`; `RequestAbandoned` or `DeadlineExceeded` if the request or
    block is limited; `ImproperlyConfigured` for an alias without a pool; `RuntimeError` outside
    asyncio.
    """

    # The attributes and methods of the pool's `Holder`.
    allow_thread_sharing = False

    def __init__(self, alias: str = DEFAULT_DB_ALIAS, *, atomic: bool = False) -> None:
        self._alias = alias
        self._atomic = atomic
        self._is_entered = False
        self._lease: Lease | None = None
        # What a thread tells receivers of, or has told.
        self._announcing: Lease | None = None
        self._transaction: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.owner: borrowers.Borrower = borrowers.borrower()

    async def __aenter__(self) -> psycopg.AsyncConnection[Any]:
        if self._is_entered:
            raise RuntimeError("aio.connection() lends one connection at a time: make another one")
        self._is_entered = True
        try:
            return await self._enter()
        except BaseException:
            self._give_back()
            raise

    async def _enter(self) -> psycopg.AsyncConnection[Any]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("aio.connection() is for tasks of asyncio")
        self._loop = asyncio.get_running_loop()
        # Not the loop's thread: another one may have the lease meanwhile, and outlive that.
        self.owner = who = TaskBorrower(task)
        wrapper: Any = connections[self._alias]
        pool = getattr(wrapper, "pool", None)
        if not isinstance(pool, Pool):
            raise ImproperlyConfigured(
                f"aio.connection() lends connections of a pool, and the alias {self._alias!r} has "
                "none: its ENGINE must be django_pooled_pg's, and OPTIONS['pool'] not False."
            )
        with wrapper.wrap_database_errors:
            lease = await _borrow(pool, ref(self, borrowers.gone), who)
            await self._announce(lease)
        self._lease, self.owner = lease, borrowers.borrower()
        use = cast(TaskUse, lease.use)
        use.begin_task()
        if self._atomic:
            self._transaction = use.raw_in_task.transaction()
            await self._transaction.__aenter__()
        return use.raw_in_task

    async def _announce(self, lease: Lease) -> None:
        """Tell Django's receivers about the borrow; they may use the connection, as in threads."""
        is_told = lease.session.announced_to == connection_created.receivers
        if is_told and not connection_borrowed.receivers:
            return
        self._announcing, give_back = lease, lease.pool.give_back

        def announce() -> None:
            # Whatever happens to the task meanwhile, it is in use here.
            lease.session.is_busy = True
            try:
                wrapper: Any = connections.create_connection(self._alias)
                wrapper.announce_for_task(lease)
                if lease.returned:
                    raise InterfaceError(
                        f"Database {self._alias!r}: a receiver of connection_created or "
                        "connection_borrowed closes each connection that it is told of."
                    )
            except BaseException:
                give_back(lease)
                raise
            finally:
                lease.session.is_busy = False

        await in_thread(announce, undo=lambda nothing: give_back(lease), keeps=self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            if kind is not None and not in_loop(self._loop):
                return False  # its task was collected, and nothing can be awaited
            try:
                if (lease := self._lease) is not None:  # else this is a forked child
                    await _end_others(lease, cast(TaskUse, lease.use))
            except asyncio.CancelledError as ex:
                await self._end_transaction(ex)
                raise
            return await self._end_transaction(error)
        finally:
            self._give_back()

    async def _end_transaction(self, error: BaseException | None) -> bool:
        lease, transaction = self._lease, self._transaction
        self._transaction = None
        if transaction is None:
            return False
        not_committed = None
        if error is None and lease is not None:
            # psycopg would say nothing.
            error = not_committed = _why_not_committed(lease.session.pgconn.transaction_status)
        if error is None:
            return bool(await transaction.__aexit__(None, None, None))
        is_handled = bool(await transaction.__aexit__(type(error), error, error.__traceback__))
        if not_committed is not None:
            raise not_committed
        return is_handled

    def _give_back(self) -> None:
        if self._loop is None or not in_loop(self._loop):
            return  # it is collected with its task; the pool learns of that, and takes the lease
        # Forgotten first: whatever comes in between, nobody has it twice.
        lease, self._lease = self._lease, None
        self._is_entered = False
        if lease is not None:
            lease.pool.give_back(lease)
            # Its callback is for leases that were never given back: it would wake a thread.
            lease.holder = None

    def holds(self, lease: Lease) -> bool:
        """Tell whether it has that lease."""
        if self._loop is None or self._loop.is_closed():
            return False  # nothing resumes its task, which may be collected late, or never
        return lease is self._lease or lease is self._announcing

    def give_back_unused(self, lease: Lease) -> None:
        """Do nothing: it has a lease as long as its block goes on."""

    def lease_lost(self, *, by_fork: bool) -> None:
        """Forget the lease: it is the parent's (in a forked child), or was reclaimed."""
        self._lease = None


async def _borrow(pool: Pool, holder: HolderRef, who: TaskBorrower) -> Lease:
    if request_scope.borrow is not None:
        from .request_record import borrow_for_task

        return await borrow_for_task(pool, holder, who)
    return await borrow(pool, holder, who)


def _why_not_committed(status: int) -> psycopg.Error | None:
    """Return why a transaction can't be committed, if that is known."""
    if status == TransactionStatus.INERROR:
        return psycopg.errors.InFailedSqlTransaction(
            "the block's transaction was rolled back: a statement in it had failed, and what it did "
            "was not undone; use connection.transaction() around what may fail"
        )
    if status == TransactionStatus.UNKNOWN:
        return psycopg.OperationalError("the block's transaction is lost: so was its connection")
    return None


async def _end_others(lease: Lease, use: TaskUse) -> None:
    """Make sure that no other task is in the middle of something with the connection."""
    if use.lock.locked():
        await to_its_end(partial(_end_other, lease, use))


async def _end_other(lease: Lease, use: TaskUse) -> None:
    # A generator that was just left may have been garbage-collected, and be about to end.
    if await _is_free(use.lock):
        return
    logger.warning(
        "Pool %r: the block of %s has ended while its connection was in use, by another task or by "
        "a generator that wasn't closed; what it runs is canceled",
        lease.pool.name,
        lease.borrower.name,
    )
    try:
        await use.quick_in_task.cancel_safe(timeout=ANSWER_LIMIT)
    except psycopg.Error as ex:
        logger.warning("Pool %r: a statement can't be canceled: %s", lease.pool.name, ex)
    if await _is_free(use.lock):
        return
    # Whoever waits for the server notices, and is gone before the socket's number is reused.
    hang_up(use.quick)
    if not await _is_free(use.lock):
        use.break_lock()


async def _is_free(lock: asyncio.Lock) -> bool:
    """Wait until nobody has the lock, at most `_PATIENCE` seconds; tell whether so."""
    # Not by asyncio's timeouts: those of a task that is collected cancel whatever task runs then.
    until = monotonic() + _PATIENCE
    while lock.locked():
        if monotonic() > until:
            return False
        await asyncio.sleep(_LOOK_EVERY)
    return True
