"""Owns the meeting of Django's DatabaseWrapper and the pool: connect borrows, close gives back.

With `opening.py` and `around_connect.py` the only module that relies on names of Django's that
aren't documented; `tests/test_django_contract.py` fails when one of them moves.
"""

from __future__ import annotations

import sys
import threading
import time
from asyncio import _get_running_loop as get_running_loop
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import psycopg
from django.conf import settings
from django.db import InterfaceError
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.postgresql.base import TIMESTAMPTZ_OID, DatabaseWrapper
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created
from psycopg.pq import Format

from . import request_scope
from .announcing import announce, connection_borrowed
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
from .pooling.process.locks import Lock
from .pooling.session.cursors import NotingServerCursor
from .validation import PoolValidation

if TYPE_CHECKING:
    _Base = DatabaseWrapper
else:
    _Base = object

request_scope.listen()
registry.on_open(endpoint.ensure_running)

# Django's own, unless somebody had put something in its place already.
_CURSOR = BaseDatabaseWrapper.cursor if is_djangos(BaseDatabaseWrapper.cursor) else None
_ENSURE = (
    BaseDatabaseWrapper.ensure_connection
    if is_djangos(BaseDatabaseWrapper.ensure_connection)
    else None
)
# What Django's settings have at hand; to ask them takes several calls. What was overridden is gone
# from here until it is asked for.
_settings: dict[str, Any] = object.__getattribute__(settings, "__dict__")

# Guards taking the connection of another thread's wrapper; see give_back_unused().
_taking = Lock()


def _in_child() -> None:
    global _taking
    _taking = Lock()  # a thread that isn't here may have held it


registry.on_fork(_in_child)


class PooledDatabaseMixin(_Base):
    """Put in front of a PostgreSQL engine's DatabaseWrapper to let it borrow from a pool."""

    _thread_ident: int
    _thread_sharing_count: int

    validation_class = PoolValidation
    client_class = PooledDatabaseClient

    # Whether an engine has a say in how cursors are made.
    _makes_cursors: bool
    # Whether an engine has something to forget when a connection is closed.
    _engine_closes: bool

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = {PooledDatabaseMixin, DatabaseWrapper, BaseDatabaseWrapper}
        engines = [vars(each) for each in cls.__mro__ if each not in known]
        cls._makes_cursors = any(
            name in engine for engine in engines for name in ("create_cursor", "make_cursor")
        )
        cls._engine_closes = any("close" in engine for engine in engines)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Django's, which an interrupt must not leave locked.
        self._thread_sharing_lock = Lock()
        self._pool: Pool | None = None
        # What _pool was looked up for; None: not looked up yet.
        self._pool_settings: Any = None
        self._settings_of_session: Any = registry.settings_of_session
        self._lease: Lease | None = None
        self._announced_to: list[Any] | None = None
        self._forked_in_atomic = False
        # How deep this thread is in code that uses self.connection without a cursor or a
        # transaction: it mustn't go back there, even if a forgotten cursor is collected.
        self._using = 0
        # Whether another thread looks whether it may take the connection.
        self._being_taken = False
        # Whether this thread is in ensure_connection(), outside of such code.
        self._ensuring = False
        # Whether somebody may use self.connection directly, so that it has to stay.
        self._asked_for = False
        self.owner = borrowers.borrower()
        self._self_ref: Any = None

    # Pool

    @property
    def pool(self) -> Pool | None:
        """The pool of this alias in this process, or `None` where there is none.

        Raises `ImproperlyConfigured` for bad settings.
        """
        # Settings change in place: between tests, and where a site has many databases.
        if self._pool_settings != registry.settings_of_session(self.settings_dict):
            # All that follows is of one moment: threads share the dict.
            settings = registry.snapshot(self.settings_dict)
            if self._pool_settings is None:
                # Once for each wrapper, whether the pool is there already or not.
                PoolConfig.from_settings(self.alias, settings)
            if self.alias == NO_DB_ALIAS:
                self._pool = None
            else:
                make = partial(session_maker, type(self), self.alias)
                self._pool = registry.pool_for(self.alias, settings, make)
            self._pool_settings = registry.settings_of_session(settings)
            self._settings_of_session = registry.settings_getter(settings)
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
        self._enter()
        try:
            if not (self._ensuring or is_djangos(BaseDatabaseWrapper.ensure_connection)):
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
            if self._using == 1:
                self._asked_for = True
        finally:
            self._using -= 1

    def prepare_database(self) -> None:
        self.ensure_connection()  # as in schema_editor(), and `migrate` begins here
        super().prepare_database()

    def schema_editor(self, *args: Any, **kwargs: Any) -> Any:
        # What a migration does to its session, those after it rely on: one that creates an
        # extension also registers its types, on `self.connection`.
        self.ensure_connection()
        return super().schema_editor(*args, **kwargs)

    def connect(self) -> None:
        """Borrow a connection. In place of Django's, which prepares one for each request.

        Inside of what others put around Django's, as Sentry does.
        """
        pool = self.pool
        if pool is None:
            super().connect()
        elif DatabaseWrapper.connect is not djangos_connect and lead_to(_borrow):
            DatabaseWrapper.connect(self)
        else:
            self._borrow(pool)

    def _borrow(self, pool: Pool, again: bool = False) -> None:
        if self._engine_closes:
            # What an engine remembers of the session it had (a search_path, for example) isn't so
            # in the one it gets.
            self.close()
        elif self._lease is not None:
            self._close()  # as in close(): forgotten at the end of an atomic block
        # What Django's connect() sets. The connection before may have been closed in an atomic block.
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        settings_dict = self.settings_dict
        self.health_check_enabled = settings_dict["CONN_HEALTH_CHECKS"]
        self.health_check_done = True
        # 0 unless it was changed after the start, as some tests do: return it with the request.
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
            # psycopg's property of that name costs a call.
            isolation_level = session.namespace["_isolation_level"]
            self.isolation_level = isolation_level or IsolationLevel.READ_COMMITTED
            self.autocommit = True
            if not settings_dict["AUTOCOMMIT"]:
                self.set_autocommit(False)
            # For a session that is new, since receivers configure sessions; for a wrapper that is
            # new, since receivers also install execute wrappers on it; and for a new receiver.
            if not session.announced_to == self._announced_to == connection_created.receivers:
                self._announced_to = announce(self, use, session)
                if self._lease is lease:
                    session.timezone = _timezone_of(use.quick)
            if connection_borrowed.receivers:
                connection_borrowed.send(sender=self.__class__, connection=self)
        except BaseException:
            self.close()
            raise
        finally:
            self._using -= 1
        if self.connection is None:
            # A receiver has closed it. Those of connection_created aren't called again for it.
            if again:
                raise InterfaceError(
                    f"Database {self.alias!r}: a receiver of connection_created or "
                    "connection_borrowed closes each connection that it is told of."
                )
            self._borrow(pool, again=True)
            return
        self.run_on_commit = []
        if self.close_at == 0 and (not who.in_request or pool.returns_early):
            use.watcher = self._self_ref

    def get_connection_params(self) -> dict[str, Any]:
        return without_pool(super().get_connection_params())

    def _enter(self) -> None:
        # Said first, looked second; who takes does it the other way round. See give_back_unused().
        self._using += 1
        if self._being_taken:
            self._wait_for_taker()

    def _wait_for_taker(self) -> None:
        with _taking:
            pass

    def cursor(self) -> Any:
        # As Django's, which asks whether this is an async context by an exception that it isn't.
        if BaseDatabaseWrapper.cursor is _CURSOR and get_running_loop() is None:
            return self._cursor()
        return super().cursor()

    def _cursor(self, name: str | None = None) -> Any:
        # Django's, without what costs each query something and isn't needed again here.
        self._using += 1
        if self._being_taken:
            self._wait_for_taker()
        try:
            # Django looks at this later; nothing is to be borrowed for who may not use it.
            if self._thread_ident != threading.get_ident():
                self.validate_thread_sharing()
            if self.health_check_enabled:
                self.close_if_health_check_failed()
            if self.connection is None or BaseDatabaseWrapper.ensure_connection is not _ENSURE:
                if (
                    # Nobody has put anything in the place of Django's methods, ...
                    BaseDatabaseWrapper.ensure_connection is _ENSURE
                    and DatabaseWrapper.connect is djangos_connect
                    # ... the connection wasn't lost in an atomic block, and the pool is known.
                    and not self.in_atomic_block
                    and self._pool is not None
                    and self._pool_settings == self._settings_of_session(self.settings_dict)
                ):
                    self._borrow(self._pool)
                else:
                    self.ensure_connection()
            lease = self._lease
            if (
                name is None
                and lease is not None
                # These are what create_cursor() looks at. A borrower changes its connection's
                # factory by the raw handle only, which notes it.
                and (use := lease.use).session.timezone is self.timezone
                and (cursor_class := use.session.cursor_class) is not None
                and not use.handled
                and not self._makes_cursors
            ):
                made = cursor_class.make(use)
                cursor = CursorWrapper.around(made, self)
            else:
                made = self.create_cursor(name)
                cursor = self.make_cursor(made)
            debug = _settings.get("DEBUG")
            if self.force_debug_cursor or (settings.DEBUG if debug is None else debug):
                return self.make_debug_cursor(made)
            return cursor
        except psycopg.Error:
            with self.wrap_database_errors:
                raise
        finally:
            self._using -= 1

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = super().create_cursor(name)
        if name is not None and self._lease is not None:
            NotingServerCursor.adopt(cursor, self._lease.use)  # Django makes it itself
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
            # As _close(). Forgotten first: whatever comes in between, nobody has it twice.
            lease, self._lease = self._lease, None
            self.connection = None
            lease.pool.give_back(lease)

    def close(self) -> None:
        try:
            super().close()
        finally:
            # An interrupt may let Django forget the connection before it goes back.
            if self.connection is None and self._lease is not None:
                self._close()

    def _close(self) -> None:
        # Forgotten first: whatever comes in between, nobody has it twice.
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

    # Give back early: at the end of the transaction, or after the last cursor

    def unused(self) -> None:
        """Give the connection back, unless something needs it to be the same one later."""
        # A cursor may be closed, or collected, in any thread: then it is done by housekeeping.
        if self._lease is not None and self._thread_ident == threading.get_ident():
            self._give_back_early(self._lease)

    def _give_back_early(self, lease: Lease) -> None:
        use = lease.use
        if (
            self._using
            or not self.autocommit  # in a transaction
            or use.open_cursors
        ):
            return
        pool = lease.pool
        if use.effect:
            pool.note_new_types(use)
        if (
            use.watcher is not None
            and not self._asked_for
            and not self._thread_sharing_count
            and pool.may_end(lease)
        ):
            # Forgotten first: whatever comes in between, nobody has it twice.
            self._lease = self.connection = None
            pool.give_back(lease)

    def give_back_unused(self, lease: Lease) -> None:
        """Give that lease back if nothing needs it; called in another thread than the owner's."""
        # The owner says that it begins to use the connection, and then looks for this flag; this
        # sets the flag, and then looks whether the owner uses it. One of the two sees the other.
        with _taking:
            self._being_taken = True
            try:
                if self._lease is lease:
                    self._give_back_early(lease)
            finally:
                self._being_taken = False

    def get_autocommit(self) -> bool:
        if (
            self.connection is None
            and not self.in_atomic_block
            and self.settings_dict["AUTOCOMMIT"]
            and self.pool is not None
        ):
            return True  # as it would be after connecting
        self._enter()
        try:
            return super().get_autocommit()
        finally:
            self._using -= 1

    def set_autocommit(self, *args: Any, **kwargs: Any) -> None:
        self._enter()
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

    def lease_lost(self, *, by_fork: bool) -> None:
        """Forget the connection: it is the parent's (in a forked child), or was reclaimed."""
        self._lease = self.connection = None
        self._being_taken = False  # at the fork, perhaps
        self.run_on_commit = []
        if self.in_atomic_block:
            self.closed_in_transaction = self.needs_rollback = True
            self._forked_in_atomic = by_fork


def _borrow(wrapper: BaseDatabaseWrapper) -> bool:
    """Connect a wrapper that has a pool, and tell whether it has."""
    if not isinstance(wrapper, PooledDatabaseMixin) or (pool := wrapper.pool) is None:
        return False
    wrapper._borrow(pool)
    return True


def _timezone_of(connection: psycopg.Connection[Any]) -> Any:
    """Return the time zone of the times that the connection's cursors load."""
    loader = connection.adapters.get_loader(TIMESTAMPTZ_OID, Format.TEXT)
    return getattr(loader, "timezone", loader)
