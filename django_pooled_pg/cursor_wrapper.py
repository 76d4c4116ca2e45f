"""Owns the wrapper around each cursor: Django's, without its detours; changes no result.

Django's `CursorWrapper` finds `fetchone` and the like in `__getattr__`, makes a new decorated
function for each call, and enters a context for each error that doesn't happen. It still does all
the rest, `execute` above all, so that whatever patches or extends Django's class works here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from django.apps import apps
from django.db.backends.utils import CursorWrapper as DjangoCursorWrapper


class CursorWrapper(DjangoCursorWrapper):
    """Django's `CursorWrapper` with its most used methods in the open."""

    def _execute_with_wrappers(
        self, sql: str, params: Any, many: bool, executor: Callable[..., Any]
    ) -> Any:
        if self.db.execute_wrappers:
            return super()._execute_with_wrappers(sql, params, many, executor)  # type: ignore[misc]
        return executor(sql, params)

    def _execute(self, sql: str, params: Any, *ignored: Any) -> Any:
        if self.db.needs_rollback or not apps.ready:
            # It knows what to say.
            return super()._execute(sql, params, *ignored)  # type: ignore[misc]
        try:
            if params is None:
                return self.cursor.execute(sql)
            return self.cursor.execute(sql, params)
        except psycopg.Error:
            with self.db.wrap_database_errors:
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
