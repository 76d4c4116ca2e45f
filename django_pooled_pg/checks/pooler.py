"""Checks for what conflicts with a pooler that lends a server session per transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage

from ..pooling.config import PoolConfig
from .messages import message

PGBOUNCER_PORT = "6432"


def guessed_from(settings: Mapping[str, Any], config: PoolConfig) -> str | None:
    """Say what in the settings suggests such a pooler; `None`: nothing."""
    if config.pool_class == "null":
        return "'class': 'null' is meant for PgBouncer in transaction mode"
    if PGBOUNCER_PORT in str(settings.get("PORT") or "").split(","):
        return f"port {PGBOUNCER_PORT} is PgBouncer's"
    if "pgbouncer" in str(settings.get("HOST") or "").lower():
        return "HOST looks like PgBouncer"
    return None


def check_pooler(
    alias: str, settings: Mapping[str, Any], config: PoolConfig, because: str
) -> Iterator[CheckMessage]:
    """Yield what goes wrong behind such a pooler; `because` says why we assume there is one."""
    if not settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        yield message(
            "W002",
            f"Server-side cursors are on, and {because}. With such a pooler, .iterator() can fail "
            "outside a transaction: its cursor and its next query may be in different sessions.",
            f"Set DATABASES[{alias!r}]['DISABLE_SERVER_SIDE_CURSORS'] to True.",
            alias,
        )
    options = settings.get("OPTIONS") or {}
    threshold = options.get("prepare_threshold")
    # Without server_side_binding psycopg prepares nothing, whatever the threshold.
    if threshold is not None and options.get("server_side_binding"):
        yield message(
            "W003",
            "Prepared statements are on (OPTIONS['prepare_threshold'] is set, with "
            f"'server_side_binding'), and {because}. Such a pooler may prepare a statement in one "
            "session and run it in another.",
            "Remove 'prepare_threshold', unless PgBouncer is 1.22 or newer with "
            "max_prepared_statements, and libpq is 17 or newer.",
            alias,
        )
    if options.get("assume_role"):
        yield message(
            "W009",
            f"OPTIONS['assume_role'] is set, and {because}. SET ROLE then stays in a session that "
            "other clients get next, and is missing from the sessions that this site gets.",
            "Remove it, and have the server set the role: ALTER ROLE ... SET role = ...",
            alias,
        )
    if config.pool_class == "pool":
        yield message(
            "I001",
            f"Two pools in a row: 'class' is 'pool', and {because}. This pool's idle connections "
            "save requests the time to connect, but PgBouncer keeps each as a client.",
            "Silence this check where connecting takes long (passwords, TLS, another host); "
            f"otherwise set DATABASES[{alias!r}]['OPTIONS']['pool']['class'] to 'null'.",
            alias,
        )
