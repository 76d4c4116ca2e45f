"""Checks the settings of one alias; asks no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage

from ..pooling.config import PoolConfig
from . import serving
from .budget import check_budget
from .encryption import check_encryption
from .messages import message
from .pooler import check_pooler, guessed_from

# A server with default settings accepts 97.
_MANY_IDLE = 50


def check_options(
    alias: str, settings: Mapping[str, Any], config: PoolConfig
) -> Iterator[CheckMessage]:
    """Yield what doesn't fit together in the settings of `alias`; each by itself is valid."""
    pool = f"DATABASES[{alias!r}]['OPTIONS']['pool']"
    if settings.get("CONN_HEALTH_CHECKS"):
        yield message(
            "I002",
            "CONN_HEALTH_CHECKS has no effect on pooled connections.",
            f"Remove it; {pool}['check'] decides how connections are checked.",
            alias,
        )
    if config.return_at == "transaction" and settings.get("ATOMIC_REQUESTS"):
        yield message(
            "I004",
            "'return_at': 'transaction' gains little with ATOMIC_REQUESTS: each view is one "
            "transaction, so it keeps its connection until it ends.",
            "Remove ATOMIC_REQUESTS and use transaction.atomic() where it is needed, or leave "
            "'return_at' at 'request'.",
            alias,
        )
    # Without idle connections, no later borrower can inherit session state.
    if config.reset == "never" and config.pool_class == "pool":
        yield message(
            "W005",
            "'reset': 'never' lets what one request does to its session (SET, advisory locks, "
            "temporary tables) leak into the next.",
            f"Remove {pool}['reset']: requests that don't touch their session pay nothing for "
            "'auto'.",
            alias,
        )
    yield from _numbers(alias, config)
    yield from check_budget(alias, config)
    yield from check_encryption(alias, settings, config)
    if because := guessed_from(settings, config):
        yield from check_pooler(alias, settings, config, because)


def _numbers(alias: str, config: PoolConfig) -> Iterator[CheckMessage]:
    limit = serving.request_timeout()
    if limit and config.timeout >= limit.number:
        yield message(
            "W004",
            f"A borrower waits up to {config.timeout:g} s for a connection ('timeout'), but the "
            f"web server stops a request after {limit.number} s ({limit.source}), so nobody would "
            "see the error that says why.",
            f"Set 'timeout' to less than {limit.number}, and 'max_waiting' if many borrowers wait.",
            alias,
        )
    if limit and config.leak_threshold and config.leak_threshold >= limit.number:
        yield message(
            "I005",
            f"'leak_threshold' is {config.leak_threshold:g} s, but the web server stops a request "
            f"after {limit.number} s ({limit.source}), so a connection that is held too long is "
            "never logged.",
            f"Set 'leak_threshold' to less than {limit.number}.",
            alias,
        )
    processes = serving.processes()
    if processes and config.min_size > 1:
        idle = config.min_size * processes.number
        if idle >= _MANY_IDLE:
            yield message(
                "I003",
                f"{processes.number} processes ({processes.source}) x 'min_size' "
                f"{config.min_size} = {idle} connections stay open even when nobody uses the "
                "site.",
                "Leave 'min_size' at 1: a busy pool keeps more anyway, for 'max_idle' seconds.",
                alias,
            )
