"""Owns the pools of this process: make, find, close, fork, exit. Borrows nothing itself."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .config import PoolConfig
from .connector import SessionMaker
from .lease import HolderRef, Lease
from .pool import Pool
from .process import borrowers, fork
from .process.borrowers import Borrower
from .process.locks import RLock

logger = logging.getLogger(__name__)

Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Entry:
    pool: Pool
    # The very dict the pool was made from, and what it said then. Django's test runner
    # changes the dict in place (NAME becomes the test database's): then the pool is stale.
    source: Settings
    identity: Settings


# Guards what follows. Never held while a pool opens, closes or connects.
_lock = RLock()
_entries: dict[str, list[_Entry]] = {}
_open_listeners: list[Callable[[], None]] = []


def snapshot(settings: Settings) -> Settings:
    """Copy the settings as deep as dicts go, to notice when they change later."""
    return {k: snapshot(v) if isinstance(v, dict) else v for k, v in settings.items()}


# The others may change while the pool stays: those of requests (AUTOCOMMIT), and what packages
# put there (django-tenants: the schema of the request).
_OF_THE_SESSION = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS", "TIME_ZONE")


def settings_of_session(settings: Settings) -> list[Any]:
    """Return what of the settings decides which session is needed, to be compared."""
    return [settings.get(key) for key in _OF_THE_SESSION]


def snapshot_of_session(settings: Settings) -> list[Any]:
    """Return the same, with which later settings can be compared when they change in place."""
    return settings_of_session(snapshot(settings))


class _WatchfulPool(Pool):
    """Looks whether it is in a child now: under a server that forks without Python's knowledge."""

    def borrow(self, holder: HolderRef | None = None, who: Borrower | None = None) -> Lease:
        fork.notice()
        return super().borrow(holder, who)

    def give_back(self, lease: Lease, *, reclaimed: bool = False) -> None:
        fork.notice()
        super().give_back(lease, reclaimed=reclaimed)


# Not everywhere: a system call takes longer than most of what a borrow does.
_pool_class = _WatchfulPool if fork.listen_to_uwsgi() else Pool


def pool_for(
    alias: str,
    source: Settings,
    session_maker: Callable[[Settings, PoolConfig], SessionMaker],
) -> Pool | None:
    """Return the pool of these settings, made now if need be; `None` where there is none.

    Equal settings of the session under one alias share one pool. Raises `ImproperlyConfigured`.
    """
    identity = snapshot({k: v for k, v in source.items() if k in _OF_THE_SESSION})
    with _lock:
        entries = _entries.setdefault(alias, [])
        # Closed, not forgotten: a wrapper of another thread may still have it, and open it again.
        stale = [e.pool for e in entries if e.source is source and e.identity != identity]
        pool = next((entry.pool for entry in entries if entry.identity == identity), None)
        if pool is None:
            settings = snapshot(source)
            config = PoolConfig.from_settings(alias, settings)
            if config is not None:
                pool = _pool_class(alias, config, session_maker(settings, config), _opened)
                entries.append(_Entry(pool=pool, source=source, identity=identity))
    for other in stale:
        other.close()
    return pool


def pools() -> list[Pool]:
    """Return all pools of this process."""
    with _lock:
        return [entry.pool for entries in _entries.values() for entry in entries]


def close(alias: str) -> None:
    """Close the pools of an alias; the next borrow opens them again."""
    with _lock:
        found = [entry.pool for entry in _entries.get(alias, ())]
    for pool in found:
        pool.close()


def on_open(listener: Callable[[], None]) -> None:
    """Call `listener` each time a pool starts to work in this process (or in a child)."""
    with _lock:
        if listener not in _open_listeners:
            _open_listeners.append(listener)


def on_fork(listener: Callable[[], None]) -> None:
    """Call `listener` in each forked child, when the inherited pools have been emptied."""
    fork.on_fork(listener)


def _reclaim(who: object) -> None:
    for pool in pools():
        pool.housekeeping.reclaim(who)


def _look_after() -> float | None:
    delays = [pool.look_after() for pool in pools()]
    return min((delay for delay in delays if delay is not None), default=None)


def _opened() -> None:
    borrowers.ensure_running(_reclaim, _look_after)
    borrowers.wake()  # this pool may want more looking after than those before it
    with _lock:
        listeners = list(_open_listeners)
    for listener in listeners:
        listener()


@atexit.register
def _close_all_at_exit() -> None:
    if fork.unnoticed():
        _forget_in_child()
    # Before the interpreter goes: a psycopg_pool left open waits for each of its threads.
    for pool in pools():
        pool.close(timeout=1.0)


def _forget_in_child() -> None:
    # The lock may have been held by a thread that isn't here; its data are whole enough,
    # because they change by single list and dict operations only.
    global _lock
    _lock = RLock()
    borrowers.start_anew()
    for pool in pools():
        try:
            pool.forget_inherited()
        except Exception:  # one pool must not keep the others attached to the parent
            logger.exception("Pool %r could not be forgotten in a forked child", pool.name)


fork.on_fork(_forget_in_child)
