"""The wrapper around each cursor: Django's, without its detours; changes no result.

Django's `CursorWrapper` finds `fetchone` and the like in `__getattr__`, makes a new decorated
function for each call, enters a context for each error that doesn't happen, and runs a statement
through three methods. If anything patches or extends Django's class, this one takes Django's way.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.apps import apps
from django.db.backends import utils
from django.db.backends.utils import CursorWrapper as DjangoCursorWrapper


def _is_djangos(function: Any) -> bool:
    return getattr(function, "__code__", None) is not None and (
        function.__code__.co_filename == utils.__file__
    )


# The methods through which Django's `execute` goes. If one was patched before this was imported,
# the unchanged one can't be found. Django's type stubs don't know the private ones.
_EXECUTE: Any = DjangoCursorWrapper.execute
_WITH_WRAPPERS = DjangoCursorWrapper._execute_with_wrappers  # type: ignore[attr-defined]
_PLAIN = DjangoCursorWrapper._execute  # type: ignore[attr-defined]
if not all(map(_is_djangos, (_EXECUTE, _WITH_WRAPPERS, _PLAIN))):
    _EXECUTE = None


_new: Any = object.__new__


class CursorWrapper(DjangoCursorWrapper):
    """Django's `CursorWrapper`, with its most used methods defined directly."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__getattr__ is not DjangoCursorWrapper.__getattr__:
            # A subclass that watches attribute access, as django-debug-toolbar's, must see these.
            for name in ("fetchone", "fetchmany", "fetchall", "close"):
                if getattr(cls, name) is getattr(CursorWrapper, name):
                    setattr(cls, name, _NotHere())
        parts = (cls._execute, cls._execute_with_wrappers)  # type: ignore[attr-defined]
        if parts != (_PLAIN, _WITH_WRAPPERS) and cls.execute is CursorWrapper.execute:
            cls.execute = DjangoCursorWrapper.execute  # type: ignore[method-assign]

    @classmethod
    def around(cls, cursor: Any, db: Any) -> CursorWrapper:
        """Make one like the class does, but without Django's `__init__`, a call for each query."""
        made: CursorWrapper = _new(cls)
        made.cursor, made.db = cursor, db
        return made

    def execute(self, sql: Any, params: Any = None) -> Any:
        db = self.db
        if (
            db.execute_wrappers
            or db.needs_rollback
            or not apps.ready
            or DjangoCursorWrapper.execute is not _EXECUTE
            or DjangoCursorWrapper._execute_with_wrappers is not _WITH_WRAPPERS  # type: ignore[attr-defined]
            or DjangoCursorWrapper._execute is not _PLAIN  # type: ignore[attr-defined]
        ):
            return super().execute(sql, params)
        try:
            if params is None:
                return self.cursor.execute(sql)
            return self.cursor.execute(sql, params)
        except psycopg.Error:
            with db.wrap_database_errors:
                raise

    def fetchone(self) -> Any:
        try:
            return self.cursor.fetchone()
        except psycopg.Error:
            with self.db.wrap_database_errors:
                raise

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.cursor.fetchmany(*args, **kwargs)
        except psycopg.Error:
            with self.db.wrap_database_errors:
                raise

    def fetchall(self) -> Any:
        try:
            return self.cursor.fetchall()
        except psycopg.Error:
            with self.db.wrap_database_errors:
                raise

    def close(self) -> None:
        self.cursor.close()


class _NotHere:
    """Makes attribute access fall back to `__getattr__`."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        raise AttributeError
