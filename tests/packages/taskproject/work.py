"""What the tasks do, whichever queue runs them. Results are plain data."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from django.db import connection, transaction

from django_pooled_pg import returning_connections

COUNT = 20
_all_of_them = threading.Barrier(COUNT)


def _fetch(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def session() -> dict[str, int]:
    """Tell the process, its server session, and how many it has made and lends now."""
    pid = _fetch("SELECT pg_backend_pid()")
    statistics = connection.pool.statistics()
    return {
        "process": os.getpid(),
        "session": pid,
        "connects": statistics.connects,
        "in_use": statistics.in_use,
    }


def change() -> dict[str, int]:
    """Leave the session changed."""
    with connection.cursor() as cursor:
        cursor.execute("SET work_mem = '7MB'")
        cursor.execute("CREATE TEMPORARY TABLE left_over (n int)")
    return session()


@returning_connections()
def change_and_return() -> dict[str, int]:
    return change()


def changes() -> list[Any]:
    """Tell what `change()` has left for this task to find."""
    return [_fetch("SHOW work_mem"), _fetch("SELECT to_regclass('left_over')::text")]


def fail(kind: str) -> None:
    """Fail within a transaction."""
    with transaction.atomic():
        session()
        if kind == "in the database":
            _fetch("SELECT 1 / 0")
        raise RuntimeError("on purpose")


def take(seconds: float, where: str) -> float:
    """Hold a connection, in a transaction, for so long."""
    with transaction.atomic():
        if where == "in the database":
            _fetch(f"SELECT pg_sleep({seconds})::text")
        else:
            session()
            time.sleep(seconds)
    return seconds


def together() -> dict[str, int]:
    """Query, wait until all `COUNT` of these tasks have done so, and query again."""
    session()
    _all_of_them.wait(timeout=60)
    return session()


def mark(number: int) -> None:
    """Write a row into a table that `marked()` makes."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO marks VALUES (%s)", [number])


def marked() -> list[int]:
    """Read the rows."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS marks (number int)")
        cursor.execute("SELECT number FROM marks ORDER BY number")
        return [number for (number,) in cursor.fetchall()]
