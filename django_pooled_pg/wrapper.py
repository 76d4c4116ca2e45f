"""Owns the meeting of Django's DatabaseWrapper and the pool: connect borrows, close returns.

With `opening.py` and `around_connect.py` the only module that relies on names of Django's that
aren't documented; `tests/test_django_contract.py` fails when one of them moves.
"""

from __future__ import annotations

import inspect
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import psycopg
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created

from . import request_record
from .around_connect import djangos_connect, is_djangos, lead_to
from .client import PooledDatabaseClient
from .cursor_wrapper import CursorWrapper
from .monitoring import endpoint
from .opening import session_maker
from .pooling import registry
from .pooling.config import PoolConfig, without_pool
from .pooling.errors import ForkedInTransaction
from .pooling.lease import Lease
from .pooling.pool import Pool
from .pooling.process import borrowers
from .pooling.session.cursors import adopt
from .pooling.session.session import Session, renew
from .request_scope import this_thread
from .validation import PoolValidation

if TYPE_CHECKING:
    _Base = DatabaseWrapper
else:
    _Base = object

registry.on_open(endpoint.ensure_running)

# Without async_unsafe().
_create_cursor = inspect.unwrap(DatabaseWrapper.create_cursor)


class PooledDatabaseMixin(_Base):
    """Put in front of a PostgreSQL engine's DatabaseWrapper to let it borrow from a pool."""

    _thread_ident: int
    _thread_sharing_count: int

    validation_class = PoolValidation
    client_class = PooledDatabaseClient

    # Whether no other mixin has a say in it.
    _engine_creates_cursors: bool
    # Whether an engine has something to forget when a connection is closed.
    _engine_closes: bool

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        after = cls.__mro__[cls.__mro__.index(PooledDatabaseMixin) + 1 :]
        first = next((each for each in after if "create_cursor" in vars(each)), None)
        cls._engine_creates_cursors = first is DatabaseWrapper
        closing = {each for each in cls.__mro__ if "close" in vars(each)}
        cls._engine_closes = closing > {PooledDatabaseMixin, BaseDatabaseWrapper}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pool: Pool | None = None
        # What _pool was looked up for; None: not looked up yet.
        self._pool_settings: registry.Settings | None = None
        self._lease: Lease | None = None
        self._announced_to: list[Any] | None = None
        self._forked_in_atomic = False
        # How deep this thread is in code that uses self.connection without a cursor or a
        # transaction: it mustn't go back there, be it because a forgotten cursor is collected.
        self._using = 0
        # Whether this thread is in ensure_connection(), outside of such code.
        self._ensuring = False
        # Whether somebody may use self.connection directly, so that it has to stay.
        self._asked_for = False
        self.owner = borrowers.borrower()
        self._self_ref = ref(self, borrowers.gone)

    # Pool

    @property
    def pool(self) -> Pool | None:
        """The pool of this alias in this process, or `None` where there is none.

        Raises `ImproperlyConfigured` for bad settings.
        """
        if self._pool_settings != self.settings_dict:
            if self._pool_settings is None:
                # Once for each wrapper, whether the pool is there already or not.
                PoolConfig.from_settings(self.alias, self.settings_dict)
            if self.alias == NO_DB_ALIAS:
                self._pool = None
            else:
                make = partial(session_maker, type(self), self.alias)
                self._pool = registry.pool_for(self.alias, self.settings_dict, make)
            self._pool_settings = registry.snapshot(self.settings_dict)
        return self._pool

    def close_pool(self) -> None:
        """Close the idle connections of this alias now, and lent ones when they return.

        Safe from any thread at any time; the next query opens the pool again.
        """
        # Celery's fixup has just returned this thread's connection; it calls this, too, before
        # and after each task, which would make each task connect.
        # https://github.com/celery/celery/issues/10554
        if sys._getframe(1).f_globals.get("__name__") != "celery.fixups.django":
            registry.close(self.alias, self.settings_dict)

    # Connect and close

    def ensure_connection(self) -> None:
        """Borrow a connection, if need be, and keep it until `close()` or the request's end."""
        if self._forked_in_atomic and self.connection is None and self.in_atomic_block:
            raise ForkedInTransaction(
                f"Database {self.alias!r}: this process was forked inside an atomic block. The "
                "transaction belongs to the parent process; leave the block before you use the "
                "database here, or fork outside of it."
            )
        if not (
            self._ensuring or (self._using and is_djangos(BaseDatabaseWrapper.ensure_connection))
        ):
            # What somebody has put in the place of Django's may call this method in turn.
            self._ensuring = True
            try:
                super().ensure_connection()
            finally:
                self._ensuring = False
        elif self.connection is None:
            # As Django's, with a few calls less.
            if self.in_atomic_block and self.closed_in_transaction:
                super().ensure_connection()  # which knows what to say
            try:
                self.connect()
            except psycopg.Error:
                with self.wrap_database_errors:
                    raise
        if not self._using:
            self._asked_for = True

    def prepare_database(self) -> None:
        self.ensure_connection()  # as in schema_editor(), and `migrate` begins here
        super().prepare_database()

    def schema_editor(self, *args: Any, **kwargs: Any) -> Any:
        # What a migration does to its session, those after it rely on: one that creates an
        # extension also registers its types, on `self.connection`.
        self.ensure_connection()
        return super().schema_editor(*args, **kwargs)

    def connect(self, around: bool = True) -> None:
        """Borrow a connection. In place of Django's, which prepares one for each request.

        Inside of what others put around Django's, as Sentry does; unless not `around`.
        """
        inside_request = this_thread.in_request
        # Settings change in place between tests, not within requests.
        pool = self._pool if inside_request and self._pool is not None else self.pool
        if pool is None:
            super().connect()
            return
        if DatabaseWrapper.connect is not djangos_connect and around and lead_to(_borrows):
            DatabaseWrapper.connect(self)
            return
        self._asked_for = not self._using
        # As Django's own: the previous connection may have been closed in an atomic block.
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        self.health_check_enabled = self.settings_dict["CONN_HEALTH_CHECKS"]
        self.health_check_done = True
        # 0 unless it was changed after the start, as some tests do: return it with the request.
        max_age = self.settings_dict["CONN_MAX_AGE"]
        self.close_at = time.monotonic() + max_age if max_age else max_age
        self.closed_in_transaction = False
        self.errors_occurred = False
        self._forked_in_atomic = False

        if self._engine_closes:
            # What an engine remembers of the session it had (a search_path, for example), be it
            # that it went back early, isn't so in the one it gets.
            self.close()
        elif self._lease is not None:
            self._close()  # as in close(): forgotten at the end of an atomic block
        if request_record.in_use and (record := request_record.current()) is not None:
            self._lease = lease = record.borrow(pool, self._self_ref)
        else:
            self._lease = lease = pool.borrow(self._self_ref)
        self.connection = lease.connection
        session = lease.session
        self._using += 1
        try:
            self.isolation_level = session.isolation_level or IsolationLevel.READ_COMMITTED
            self.autocommit = True
            if not self.settings_dict["AUTOCOMMIT"]:
                self.set_autocommit(False)
            # For a session that is new, since receivers configure sessions; for a wrapper that is
            # new, since receivers also install execute wrappers on it; and for a new receiver.
            if not session.announced_to == self._announced_to == connection_created.receivers:
                self._announce(session)
        except BaseException:
            self.close()
            raise
        finally:
            self._using -= 1
        self.run_on_commit = []
        if max_age == 0 and (not inside_request or pool.config.return_at == "transaction"):
            session.watcher = self._self_ref

    def get_connection_params(self) -> dict[str, Any]:
        return without_pool(super().get_connection_params())

    def _announce(self, session: Session) -> None:
        connection_created.send(sender=self.__class__, connection=self)
        session.announced_to = self._announced_to = connection_created.receivers.copy()
        # What receivers set, they set on each session: it isn't to be reset.
        renew(self.connection)

    def _cursor(self, name: str | None = None) -> Any:
        # Django's, without what costs each query something and isn't needed again here.
        self._using += 1
        try:
            if self.health_check_enabled:
                self.close_if_health_check_failed()
            self.ensure_connection()
            cursor = self.create_cursor(name)
            if self._thread_ident != threading.get_ident():
                self.validate_thread_sharing()
            return (
                self.make_debug_cursor(cursor) if self.queries_logged else self.make_cursor(cursor)
            )
        except psycopg.Error:
            with self.wrap_database_errors:
                raise
        finally:
            self._using -= 1

    def create_cursor(self, name: str | None = None) -> Any:
        if name is None and self._using and self._engine_creates_cursors:
            # cursor() has looked already whether this is an async context.
            return _create_cursor(self)
        cursor = super().create_cursor(name)
        if name is not None and self._lease is not None:
            adopt(cursor)  # Django makes it itself
        return cursor

    def make_cursor(self, cursor: Any) -> CursorWrapper:
        return CursorWrapper(cursor, self)

    def close_if_unusable_or_obsolete(self) -> None:
        # At the beginning and the end of a request. What Django looks at there, the pool looks
        # at: whether the connection works, and whether it is the same as when it was borrowed.
        if self.connection is None:
            return
        if self._lease is None or self.close_at != 0 or self.in_atomic_block:
            super().close_if_unusable_or_obsolete()
        elif self._engine_closes:
            self.close()
        else:
            self.run_on_commit = []
            self._close()

    def close(self) -> None:
        try:
            super().close()
        finally:
            # An interrupt may let Django forget the connection before it goes back.
            if self.connection is None and self._lease is not None:
                self._close()

    def _close(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self.connection = None
            lease.pool.give_back(lease)
        elif self.connection is not None:
            # Not borrowed: no pool, or put here by someone who knows why.
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

    # Return early: at the end of the transaction, or after the last cursor

    def unused(self) -> None:
        """Return the connection, unless something needs it to be the same one later."""
        lease = self._lease
        if (
            lease is None
            or self._using
            or not self.autocommit  # in a transaction
            # A cursor may be closed, or collected, in any thread.
            or self._thread_ident != threading.get_ident()
        ):
            return
        session = lease.session
        lease.pool.note_new_types(session)
        if (
            session.watcher is not None
            and not self._asked_for
            and not self._thread_sharing_count
            and not session.open_cursors
            and lease.pool.give_back_early(lease)
        ):
            self._lease = self.connection = None

    def get_autocommit(self) -> bool:
        if (
            self.connection is None
            and not self.in_atomic_block
            and self.settings_dict["AUTOCOMMIT"]
            and self.pool is not None
        ):
            return True  # as it would be after connecting
        self._using += 1
        try:
            return super().get_autocommit()
        finally:
            self._using -= 1

    def set_autocommit(self, *args: Any, **kwargs: Any) -> None:
        self._using += 1
        try:
            super().set_autocommit(*args, **kwargs)
        finally:
            self._using -= 1
            self.unused()

    def run_and_clear_commit_hooks(self) -> None:
        # The transaction is over. Hooks tell queues and mail servers, which takes its time; one
        # that queries borrows again.
        using, self._using = self._using, max(0, self._using - 1)
        try:
            self.unused()
            super().run_and_clear_commit_hooks()
        finally:
            self._using = using

    def holds(self, lease: Lease) -> bool:
        # Without the connection it is of no use to this wrapper, and should be found.
        return self._lease is lease and self.connection is not None

    def lease_lost(self) -> None:
        """Forget the connection: it is the parent's (in a forked child), or was reclaimed."""
        self._lease = self.connection = None
        self.run_on_commit = []
        if self.in_atomic_block:
            self.closed_in_transaction = self.needs_rollback = True
            self._forked_in_atomic = True


def _borrows(wrapper: BaseDatabaseWrapper) -> bool:
    """Connect a wrapper that has a pool, and tell whether it has."""
    if not isinstance(wrapper, PooledDatabaseMixin) or wrapper.pool is None:
        return False
    PooledDatabaseMixin.connect(wrapper, around=False)
    return True
