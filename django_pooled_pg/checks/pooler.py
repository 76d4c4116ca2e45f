"""Owns what doesn't go together with a pooler that lends a server session per transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage

from ..pooling.config import PoolConfig
from .messages import message

PGBOUNCER_PORT = "6432"


def guessed_from(settings: Mapping[str, Any], config: PoolConfig) -> str | None:
    """Return what in the settings looks like such a pooler; `None`: nothing."""
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
    """Yield what is wrong if there is such a pooler; `because` says why that is thought."""
    if not settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        yield message(
            "W002",
            f"Server-side cursors are on, and {because}. There .iterator() can fail "
            "outside of a transaction: its cursor may be in another session than its next "
            "query.",
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
            f"'server_side_binding'), and {because}. There a statement may be prepared in "
            "another session than it is run in.",
            "Remove 'prepare_threshold', unless PgBouncer is at least 1.22 with "
            "max_prepared_statements, and libpq at least 17.",
            alias,
        )
    if options.get("assume_role"):
        yield message(
            "W009",
            f"OPTIONS['assume_role'] is set, and {because}. There the SET ROLE stays in "
            "a session that others get next, and isn't in the sessions that this site gets.",
            "Remove it, and let the server set the role: ALTER ROLE ... SET role = ...",
            alias,
        )
    if config.pool_class == "pool":
        yield message(
            "I001",
            f"Two pools in a row: 'class' is 'pool', and {because}. Idle connections of this "
            "pool save requests a connect, and are clients that PgBouncer keeps meanwhile.",
            "Silence this where a connect takes long (passwords, TLS, another host), else "
            f"set DATABASES[{alias!r}]['OPTIONS']['pool']['class'] to 'null'.",
            alias,
        )
