"""Owns the wrapper around each cursor: Django's, without its detours; changes no result.

Django's `CursorWrapper` finds `fetchone` and the like in `__getattr__`, and makes a new decorated
function for each call. It still does all the rest, `execute` above all, so that whatever patches
or extends Django's class works here.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.utils import CursorWrapper as DjangoCursorWrapper


class CursorWrapper(DjangoCursorWrapper):
    """Django's `CursorWrapper` with its most used methods in the open."""

    def fetchone(self) -> Any:
        with self.db.wrap_database_errors:
            return self.cursor.fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        with self.db.wrap_database_errors:
            return self.cursor.fetchmany(*args, **kwargs)

    def fetchall(self) -> Any:
        with self.db.wrap_database_errors:
            return self.cursor.fetchall()

    def close(self) -> None:
        self.cursor.close()
