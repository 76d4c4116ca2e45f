"""A WSGI application that queries when it is imported, as some sites do; for `--preload`."""

from __future__ import annotations

from testproject.wsgi import application

__all__ = ["application", "parent_backend_pid"]

from django.db import connection

with connection.cursor() as cursor:
    cursor.execute("SELECT pg_backend_pid()")
    parent_backend_pid = cursor.fetchone()[0]
