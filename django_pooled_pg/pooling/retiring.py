"""Retires idle connections in time: those unused for `max_idle`, and those past `max_lifetime`.

psycopg_pool itself drops only one unused connection per `max_idle`, and checks the age only of
connections that return. It shortens each connection's lifetime by up to 5 %, at random.
"""

from __future__ import annotations

import logging
from time import monotonic

from .backing.null import AnyBacking
from .config import Connection, PoolConfig
from .ledger import Ledger
from .session.session import session_of

logger = logging.getLogger(__name__)


def retire(pool_name: str, config: PoolConfig, ledger: Ledger) -> None:
    """Close what was idle for too long, or one connection that is too old. Called each second."""
    now = monotonic()
    with ledger.lock:
        backing = ledger.backing
        if backing is None or not backing.idle:
            return
        chosen = _unused(backing, config, now) or _oldest(backing, config, now)
        retired = backing.take_idle_if(lambda connection: connection in chosen)
    for connection in retired:
        backing.drop(connection)
    if retired:
        logger.debug("Pool %r: retired %d idle connections", pool_name, len(retired))
        backing.fill()


# What follows is called with the lock held.


def _unused(backing: AnyBacking, config: PoolConfig, now: float) -> list[Connection]:
    before = now - config.max_idle
    unused = [c for c in backing.idle_connections() if session_of(c).idle_since <= before]
    return unused[: max(0, backing.size - config.min_size)]


def _oldest(backing: AnyBacking, config: PoolConfig, now: float) -> list[Connection]:
    expired = backing.expired(now)
    # What is being made may be the replacement that one of these waits for.
    if not expired or backing.is_making():
        return []
    if backing.size <= config.min_size < config.max_size:
        # It goes once there is another in its place; if none can be opened, it stays.
        backing.make_one_more()
        return []
    return expired[:1]
