"""Owns the wrapper around each cursor: Django's, without its detours; changes no result.

Django's `CursorWrapper` finds `fetchone` and the like in `__getattr__`, makes a new decorated
function for each call, enters a context for each error that doesn't happen, and runs a statement
through three methods. Whatever patches or extends Django's class has its say here: then its own
way is taken.
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


# The methods through which Django's `execute` goes. Where one was patched before this was imported
# there is none that could be found unchanged. The types of Django know nothing of the private ones.
_EXECUTE: Any = DjangoCursorWrapper.execute
_WITH_WRAPPERS = DjangoCursorWrapper._execute_with_wrappers  # type: ignore[attr-defined]
_PLAIN = DjangoCursorWrapper._execute  # type: ignore[attr-defined]
if not all(map(_is_djangos, (_EXECUTE, _WITH_WRAPPERS, _PLAIN))):
    _EXECUTE = None


_new: Any = object.__new__


class CursorWrapper(DjangoCursorWrapper):
    """Django's `CursorWrapper` with its most used methods in the open."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__getattr__ is not DjangoCursorWrapper.__getattr__:
            # Whoever looks at each access, as django-debug-toolbar does, is to see these, too.
            for name in ("fetchone", "fetchmany", "fetchall", "close"):
                if getattr(cls, name) is getattr(CursorWrapper, name):
                    setattr(cls, name, _NotHere())
        parts = (cls._execute, cls._execute_with_wrappers)  # type: ignore[attr-defined]
        if parts != (_PLAIN, _WITH_WRAPPERS) and cls.execute is CursorWrapper.execute:
            cls.execute = DjangoCursorWrapper.execute  # type: ignore[method-assign]

    @classmethod
    def around(cls, cursor: Any, db: Any) -> CursorWrapper:
        """Make one as its class does: Django's `__init__` costs each query a call."""
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
    """An attribute that `__getattr__` is asked for."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        raise AttributeError
