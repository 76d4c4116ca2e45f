"""Makes cursors as Django does, without the steps that cost each query time."""

from __future__ import annotations

import threading
from asyncio import _get_running_loop as get_running_loop
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper

from ..around_connect import djangos_connect, is_djangos
from ..cursor_wrapper import CursorWrapper
from ..pooling.session.cursors import NotingServerCursor
from .borrowing import BorrowingMixin

# Django's own, unless somebody had already replaced it.
_CURSOR = BaseDatabaseWrapper.cursor if is_djangos(BaseDatabaseWrapper.cursor) else None
_ENSURE = (
    BaseDatabaseWrapper.ensure_connection
    if is_djangos(BaseDatabaseWrapper.ensure_connection)
    else None
)
# The settings that Django has cached; asking for them takes several calls. Overriding a setting
# removes it here until it is read again.
_settings: dict[str, Any] = object.__getattribute__(settings, "__dict__")


class CursorsMixin(BorrowingMixin):
    """A wrapper whose cursors note what they do."""

    # Whether an engine changes how cursors are made.
    _makes_cursors: bool

    def cursor(self) -> Any:
        # As in Django, which finds out that this is no async context by catching an exception.
        if BaseDatabaseWrapper.cursor is _CURSOR and get_running_loop() is None:
            return self._cursor()
        return super().cursor()

    def _cursor(self, name: str | None = None) -> Any:
        # Django's, without steps that cost each query time and aren't needed here.
        self._using += 1
        if self._being_taken:
            self._wait_for_taker()
        try:
            # Django checks this later; nothing must be borrowed for a thread that may not use it.
            if self._thread_ident != threading.get_ident():
                self.validate_thread_sharing()
            if self.health_check_enabled:
                self.close_if_health_check_failed()
            if self.connection is None or BaseDatabaseWrapper.ensure_connection is not _ENSURE:
                if (
                    # Nobody has replaced Django's methods, ...
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
                # These are what create_cursor() looks at. A borrower can only change its
                # connection's factory through the raw handle, which notes it.
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
