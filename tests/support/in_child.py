"""What a `multiprocessing` child does; importable, because a spawned one imports it."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.db import connection


def child_backend_pid(configuration: dict[str, Any]) -> int:
    """Return the process id of this process' server session."""
    if not settings.configured:
        settings.configure(**configuration)
        django.setup()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])
