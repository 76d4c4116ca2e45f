"""What a session is like when it is as good as new, and what spoils it."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connection

from tests.soak.site import OTHER_ROLE, ROLE

# What a borrower must find in its session.
EXPECTED = {
    "current_user": ROLE,
    "session_user": "postgres",
    "current_setting('search_path')": '"$user", public',
    "current_setting('TimeZone')": "Europe/Berlin",
    "current_setting('statement_timeout')": "0",
    "current_setting('default_transaction_read_only')": "off",
    "current_setting('default_transaction_isolation')": "read committed",
    "coalesce(current_setting('soak.mark', true), '')": "",
    "(SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())": 0,
    "(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')": 0,
    "(SELECT count(*) FROM pg_listening_channels())": 0,
    "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql)": 0,
    "(SELECT count(*) FROM pg_cursors WHERE is_holdable)": 0,
    "pg_current_xact_id_if_assigned() IS NULL": True,
}
SPOILERS = [
    "SET search_path TO pg_catalog",
    "SELECT set_config('search_path', 'nowhere', false)",
    f"SET ROLE {OTHER_ROLE}",
    "RESET ROLE",
    f"SET SESSION AUTHORIZATION {OTHER_ROLE}",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET statement_timeout = '59s'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET default_transaction_isolation = 'serializable'",
    "SELECT set_config('soak.mark', 'mine', false)",
    "CREATE TEMPORARY TABLE litter (n int)",
    "SELECT pg_advisory_lock(pg_backend_pid())",
    "LISTEN soak",
    "PREPARE leftover AS SELECT 1",
    "DECLARE leftover CURSOR WITH HOLD FOR SELECT 1",
    "BEGIN",
]


class Wrong(Exception):
    """What must not happen."""


LOOK = f"SELECT {', '.join(EXPECTED)}"


def look() -> None:
    """Look whether the session is as good as new."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK)
        require_clean(cursor.fetchone())


def require_clean(found: Any) -> None:
    """Raise `Wrong` if that is not what a borrower must find."""
    strange = {
        what: value
        for (what, wanted), value in zip(EXPECTED.items(), found, strict=True)
        if value != wanted
    }
    if strange:
        raise Wrong(f"found in the session: {strange}")


def tags() -> Any:
    return apps.get_model("library", "Tag").objects.all()


def write(row: str) -> None:
    tags().create(name=row)
