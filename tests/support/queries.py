"""Small questions to the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper


def connect(database: Mapping[str, Any], **changes: Any) -> psycopg.Connection[Any]:
    """Connect to the server of these settings by psycopg alone; a `with` of it closes it."""
    settings = {
        "host": database["HOST"],
        "port": database["PORT"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "dbname": database["NAME"],
        "autocommit": True,
    }
    return psycopg.connect(**{**settings, **changes})


def fetch(wrapper: BaseDatabaseWrapper, sql: str, params: Any = None) -> Any:
    """Return the first value of the first row."""
    with wrapper.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


def backend_pid(wrapper: BaseDatabaseWrapper) -> int:
    """Return the process id of the server session."""
    return int(fetch(wrapper, "SELECT pg_backend_pid()"))


def hold(wrapper: BaseDatabaseWrapper) -> int:
    """Borrow a connection to keep it, as a request does; return its process id."""
    wrapper.ensure_connection()
    return backend_pid(wrapper)


def sessions(wrapper: BaseDatabaseWrapper, application_name: str) -> int:
    """Return how many sessions of that name the server has."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    return int(fetch(wrapper, sql, [application_name]))
