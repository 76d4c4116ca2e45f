"""Owns what doesn't go together with a pooler that lends a server session per transaction."""

from __future__ import annotations

from collections.abc import Mapping
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
) -> list[CheckMessage]:
    """Return what is wrong if there is such a pooler; `because` says why that is thought."""
    messages = []
    if not settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        messages.append(
            message(
                "W002",
                f"Server-side cursors are on, and {because}. There .iterator() can fail "
                "outside of a transaction: its cursor may be in another session than its next "
                "query.",
                f"Set DATABASES[{alias!r}]['DISABLE_SERVER_SIDE_CURSORS'] to True.",
                alias,
            )
        )
    threshold = settings.get("OPTIONS", {}).get("prepare_threshold")
    if threshold is not None:
        messages.append(
            message(
                "W003",
                f"Prepared statements are on (OPTIONS['prepare_threshold'] is {threshold!r}), and "
                f"{because}. There a statement may be prepared in another session than it is "
                "run in.",
                "Remove 'prepare_threshold', unless PgBouncer is at least 1.22 with "
                "max_prepared_statements, and libpq at least 17.",
                alias,
            )
        )
    if config.pool_class == "pool":
        messages.append(
            message(
                "I001",
                f"Two pools in a row: 'class' is 'pool', and {because}. Idle connections of this "
                "pool are then clients that PgBouncer keeps for nothing.",
                f"Set DATABASES[{alias!r}]['OPTIONS']['pool']['class'] to 'null'.",
                alias,
            )
        )
    return messages
