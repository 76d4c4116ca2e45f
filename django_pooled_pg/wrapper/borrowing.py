"""Borrows where Django connects, and gives back where it closes."""

from __future__ import annotations

import threading
import time
from typing import Any
from weakref import ref

import psycopg
from django.db import InterfaceError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import TIMESTAMPTZ_OID, DatabaseWrapper
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created
from psycopg.pq import Format

from .. import request_scope
from ..announcing import announce, connection_borrowed
from ..around_connect import djangos_connect, is_djangos, lead_to
from ..pooling.errors import ForkedInTransaction
from ..pooling.lease import Lease
from ..pooling.pool import Pool
from ..pooling.process import borrowers
from ..pooling.process.locks import Lock
from .early import EarlyReturnMixin


class BorrowingMixin(EarlyReturnMixin):
    """A wrapper that borrows where Django's connects."""

    # Whether an engine forgets something of its own when a connection is closed.
    _engine_closes: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In place of Django's, because an interrupt must not leave it locked.
        self._thread_sharing_lock = Lock()
        self._announced_to: list[Any] | None = None
        self._forked_in_atomic = False
        # Whether a replacement of Django's ensure_connection() is running.
        self._ensuring = False
        self.owner = borrowers.borrower()
        self._self_ref: Any = None

    def ensure_connection(self) -> None:
        """Borrow a connection if needed, and keep it until `close()` or the request's end."""
        if self._forked_in_atomic and self.connection is None and self.in_atomic_block:
            raise ForkedInTransaction(
                f"Database {self.alias!r}: this process was forked inside an atomic block. The "
                "transaction belongs to the parent process; leave the block before you use the "
                "database here, or fork outside of it."
            )
        self._enter()
        try:
            if not (self._ensuring or is_djangos(BaseDatabaseWrapper.ensure_connection)):
                # A replacement of Django's method may call this one in turn.
                self._ensuring = True
                try:
                    super().ensure_connection()
                finally:
                    self._ensuring = False
            elif self.connection is None:
                # As in Django, with a few calls less.
                if self.in_atomic_block and self.closed_in_transaction:
                    super().ensure_connection()  # raises Django's own error
                try:
                    self.connect()
                except psycopg.Error:
                    with self.wrap_database_errors:
                        raise
            if self._using == 1:
                self._asked_for = True
        finally:
            self._using -= 1

    def prepare_database(self) -> None:
        self.ensure_connection()  # as in schema_editor(); `migrate` begins here
        super().prepare_database()

    def schema_editor(self, *args: Any, **kwargs: Any) -> Any:
        # Later migrations rely on what one does to its session: a migration that creates an
        # extension also registers its types, on `self.connection`.
        self.ensure_connection()
        return super().schema_editor(*args, **kwargs)

    def connect(self) -> None:
        """Borrow a connection. Replaces Django's method, which prepares one for each request.

        Goes inside what others, such as Sentry, put around Django's.
        """
        pool = self.pool
        if pool is None:
            super().connect()
        elif DatabaseWrapper.connect is not djangos_connect and lead_to(_borrow):
            DatabaseWrapper.connect(self)
        else:
            self._borrow(pool)

    def _borrow(self, pool: Pool, again: bool = False) -> None:
        if self._engine_closes or self._lease is not None:
            self._forget_before()
        # What Django's connect() sets. The last connection may have been closed in an atomic block.
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        settings_dict = self.settings_dict
        self.health_check_enabled = settings_dict["CONN_HEALTH_CHECKS"]
        self.health_check_done = True
        # 0 unless it was changed after the start, as some tests do; 0 returns it with the request.
        max_age = settings_dict["CONN_MAX_AGE"]
        self.close_at = time.monotonic() + max_age if max_age else max_age
        self.closed_in_transaction = False
        self.errors_occurred = False
        self._forked_in_atomic = False
        self._asked_for = not self._using
        who = self.owner if self._thread_ident == threading.get_ident() else borrowers.borrower()
        if self._self_ref is None:
            self._self_ref = ref(self, borrowers.gone)
        if request_scope.borrow is not None:
            self._lease = lease = request_scope.borrow(pool, self._self_ref, who)
        else:
            self._lease = lease = pool.borrow(self._self_ref, who)
        use, session = lease.use, lease.session
        self.connection = use.raw
        self._using += 1
        try:
            # psycopg's property of that name would cost a call.
            isolation_level = session.namespace["_isolation_level"]
            self.isolation_level = isolation_level or IsolationLevel.READ_COMMITTED
            self.autocommit = True
            if not settings_dict["AUTOCOMMIT"]:
                self.set_autocommit(False)
            # For a new session, since receivers configure sessions; for a new wrapper, since
            # receivers also install execute wrappers on it; and for a new receiver.
            if not session.announced_to == self._announced_to == connection_created.receivers:
                self._announce(lease)
            if connection_borrowed.receivers:
                connection_borrowed.send(sender=self.__class__, connection=self)
        except BaseException:
            self.close()
            raise
        finally:
            self._using -= 1
        if self.connection is None:
            self._borrow_again(pool, again)
            return
        self.run_on_commit = []
        if self.close_at == 0 and (not who.in_request or pool.returns_early):
            use.watcher = self._self_ref

    def _forget_before(self) -> None:
        if self._engine_closes:
            # What an engine remembers of its former session (a search_path, for example) isn't true
            # of the one it gets.
            self.close()
        else:
            self._close()  # as close() does; the connection was forgotten at an atomic block's end

    def _announce(self, lease: Lease) -> None:
        use, session = lease.use, lease.session
        self._announced_to = announce(self, use, session)
        if self._lease is lease:
            session.timezone = _timezone_of(use.quick)

    def announce_for_task(self, lease: Lease) -> None:
        """Tell receivers about the session that a task has borrowed, as in `_borrow()`."""
        self._lease, self.connection = lease, lease.use.raw
        self.autocommit = True
        try:
            if lease.session.announced_to != connection_created.receivers:
                self._announce(lease)
            if connection_borrowed.receivers:
                connection_borrowed.send(sender=self.__class__, connection=self)
        finally:
            self._lease = self.connection = None

    def _borrow_again(self, pool: Pool, again: bool) -> None:
        # A receiver has closed it. Those of connection_created aren't called again for it.
        if again:
            raise InterfaceError(
                f"Database {self.alias!r}: a receiver of connection_created or "
                "connection_borrowed closes each connection that it is told of."
            )
        self._borrow(pool, again=True)

    def close_if_unusable_or_obsolete(self) -> None:
        # At the beginning and the end of a request. The pool checks what Django checks there:
        # whether the connection works, and whether it is the same as when it was borrowed.
        if self.connection is None:
            return
        if self._lease is None or self.close_at != 0 or self.in_atomic_block:
            super().close_if_unusable_or_obsolete()
        elif self._engine_closes:
            self.close()
        else:
            self.run_on_commit = []
            # As _close(). Forgotten first: whatever comes in between, nobody has it twice.
            lease, self._lease = self._lease, None
            self.connection = None
            lease.pool.give_back(lease)

    def close(self) -> None:
        try:
            super().close()
        finally:
            # After an interrupt, Django may have forgotten the connection before it went back.
            if self.connection is None and self._lease is not None:
                self._close()

    def _close(self) -> None:
        # Forgotten first: whatever comes in between, nobody has it twice.
        lease, self._lease = self._lease, None
        if lease is not None:
            self.connection = None
            lease.pool.give_back(lease)
        elif self.connection is not None:
            # Not borrowed: there is no pool, or somebody put it here on purpose.
            with self.wrap_database_errors:
                self.connection.close()

    def close_if_health_check_failed(self) -> None:
        # A connection that Django finds unusable mustn't come back with the next borrow.
        lease = self._lease
        if lease is None:
            super().close_if_health_check_failed()
        elif self.health_check_enabled and not self.health_check_done:
            if not self.is_usable():
                lease.connection.close()
                self.close()
            self.health_check_done = True

    def holds(self, lease: Lease) -> bool:
        # Without the connection, the lease is useless to this wrapper, and must be found.
        return self._lease is lease and self.connection is not None

    def lease_lost(self, *, by_fork: bool) -> None:
        """Forget the connection: it is the parent's (in a forked child), or was reclaimed."""
        self._lease = self.connection = None
        self._being_taken = False  # the fork may have come while it was true
        self.run_on_commit = []
        if self.in_atomic_block:
            self.closed_in_transaction = self.needs_rollback = True
            self._forked_in_atomic = by_fork


def _borrow(wrapper: BaseDatabaseWrapper) -> bool:
    """Connect a wrapper that has a pool; tell whether it has one."""
    if not isinstance(wrapper, BorrowingMixin) or (pool := wrapper.pool) is None:
        return False
    wrapper._borrow(pool)
    return True


def _timezone_of(connection: psycopg.Connection[Any]) -> Any:
    """Return the time zone of the times that the connection's cursors load."""
    loader = connection.adapters.get_loader(TIMESTAMPTZ_OID, Format.TEXT)
    return getattr(loader, "timezone", loader)
