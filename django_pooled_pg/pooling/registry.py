"""Keeps the pools of this process: make, find, close, fork, exit. Borrows nothing itself."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from operator import itemgetter
from time import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .config import PoolConfig
from .connector import SessionMaker
from .lease import HolderRef, Lease
from .pool import Pool
from .process import borrowers, fork
from .process.borrowers import Borrower
from .process.locks import RLock
from .work import watcher

if TYPE_CHECKING:
    from .statistics import PoolStatistics

logger = logging.getLogger(__name__)

Settings = dict[str, Any]

started = time()
"""When this process began, as far as this package knows: when it was loaded or forked."""

# Guards what follows. Never held while a pool opens, closes or connects.
_lock = RLock()
# The pools that are kept for each alias; the one asked for most recently is last.
_kept: dict[str, list[Pool]] = {}
# Every pool that is alive, with the settings it was made for. One that isn't kept may be in a
# wrapper of another thread, and may be opened again: then it is kept again.
_alive: WeakKeyDictionary[Pool, Settings] = WeakKeyDictionary()
# What forgotten pools had counted, by alias and name: sums mustn't go backwards. And the part
# of each pool, because it may be kept again.
_past: dict[tuple[str, str], PoolStatistics] = {}
_counted: WeakKeyDictionary[Pool, PoolStatistics] = WeakKeyDictionary()
_open_listeners: list[Callable[[], None]] = []

# How many pools to keep for settings that an alias had before. Enough for sites that alternate
# between a few databases; one that moves on to ever new ones mustn't pile up pools.
_LEFT_BEHIND = 8


def snapshot(settings: Settings) -> Settings:
    """Copy the settings, and all dicts in them, to notice later changes."""
    return {k: snapshot(v) if isinstance(v, dict) else v for k, v in settings.items()}


# Other settings may change while the pool stays: those of requests (AUTOCOMMIT), and what packages
# put there (django-tenants: the schema of the request).
_OF_THE_SESSION = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS", "TIME_ZONE")


_of_session: Callable[[Settings], tuple[Any, ...]] = itemgetter(*_OF_THE_SESSION)


def settings_of_session(settings: Settings) -> tuple[Any, ...]:
    """Return the settings that decide which session is needed, for comparison.

    Where settings may change in place, compare them with those of a `snapshot`.
    """
    try:
        return _of_session(settings)
    except KeyError:  # Django hasn't filled in the defaults
        return tuple(map(settings.get, _OF_THE_SESSION))


def settings_getter(settings: Settings) -> Callable[[Settings], tuple[Any, ...]]:
    """Return a function like `settings_of_session` for these settings; one C call if possible."""
    return _of_session if settings.keys() >= set(_OF_THE_SESSION) else settings_of_session


class _WatchfulPool(Pool):
    """Checks whether it is in a child now: for servers that fork without Python's knowledge."""

    def borrow(self, holder: HolderRef | None = None, who: Borrower | None = None) -> Lease:
        fork.notice()
        return super().borrow(holder, who)

    def give_back(self, lease: Lease, *, reclaimed: bool = False) -> None:
        fork.notice()
        super().give_back(lease, reclaimed=reclaimed)


# Only there: the system call takes longer than most of what a borrow does.
_pool_class = _WatchfulPool if fork.listen_to_uwsgi() else Pool


def pool_for(
    alias: str,
    source: Settings,
    session_maker: Callable[[Settings, PoolConfig], SessionMaker],
) -> Pool | None:
    """Return the pool of these settings, made now if needed; `None` if they ask for no pool.

    Under one alias, equal settings of the session share a pool. Raises `ImproperlyConfigured`.
    """
    # Copied now: another thread may change them during the search.
    settings = snapshot(source)
    of_session = {key: settings[key] for key in _OF_THE_SESSION if key in settings}
    with _lock:
        kept = _kept.setdefault(alias, [])
        pool = next((each for each in reversed(kept) if _alive[each] == of_session), None)
        if pool is not None and pool is kept[-1]:
            return pool
        pool, left = pool or _made_for(alias, of_session), None
        if pool is None:
            left = kept[-1] if kept else None
            config = PoolConfig.from_settings(alias, settings)
            if config is None:
                return None
            opened = _Opened()
            pool = opened.pool = _pool_class(alias, config, session_maker(settings, config), opened)
            _alive[pool] = of_session
        _keep(pool)
    if left is not None:
        # Only once, not at each change: Django's test runner changes NAME to the test database's,
        # and nothing may stay connected to the former one; other sites alternate.
        left.close()
    _forget_surplus(alias)
    return pool


def _made_for(alias: str, of_session: Settings) -> Pool | None:
    made = ((pool, settings) for pool, settings in _alive.items() if pool.alias == alias)
    return next((pool for pool, settings in made if settings == of_session), None)


class _Opened:
    """What a pool calls when it starts to work."""

    pool: Pool

    def __call__(self) -> None:
        with _lock:
            kept_already = self.pool in _kept[self.pool.alias]
            if not kept_already:
                _keep(self.pool)
        if not kept_already:
            _forget_surplus(self.pool.alias)
        _tell_opened()


def _keep(pool: Pool) -> None:
    kept = _kept[pool.alias]
    if pool in kept:
        kept.remove(pool)
    kept.append(pool)
    if (counted := _counted.pop(pool, None)) is not None:
        of = pool.alias, pool.name
        _past[of] = _past[of].plus(counted, -1)


def _forget_surplus(alias: str) -> None:
    """Close and forget the pools that were asked for longest ago, except those that lend."""
    with _lock:
        surplus = _kept[alias][: -1 - _LEFT_BEHIND]
    for pool in surplus:
        if pool.leases():
            continue
        counted = pool.statistics().of_the_past()
        with _lock:
            if pool in _kept[alias]:
                _kept[alias].remove(pool)
                of = alias, pool.name
                _past[of] = _past[of].plus(counted) if of in _past else counted
                _counted[pool] = counted
        pool.close()
        if pool.leases():  # lent just before it was closed
            with _lock:
                _keep(pool)


def pools() -> list[Pool]:
    """Return all pools of this process, in the order of their making, except forgotten ones."""
    with _lock:
        return _in_order()


def _in_order() -> list[Pool]:
    kept = {pool for each in _kept.values() for pool in each}
    return [pool for pool in _alive if pool in kept]


def statistics() -> list[PoolStatistics]:
    """Return the figures of all pools of this process.

    With the counters of forgotten ones, added up for each alias and name.
    """
    with _lock:
        past = list(_past.values())
    return past + [pool.statistics() for pool in pools()]


def _all_alive() -> list[Pool]:
    with _lock:
        return list(_alive)


def close(alias: str, settings: Settings | None = None) -> None:
    """Close the pools of an alias and all others on its databases; a borrow opens them again.

    `settings` are those that the alias has now. The others matter because sessions of another
    alias, such as a replica's in tests, also prevent dropping or cloning a database.
    """
    with _lock:
        everything = list(_alive.items())
    databases = [_database(each) for pool, each in everything if pool.alias == alias]
    if settings is not None:
        databases.append(_database(settings))
    for pool, each in everything:
        if pool.alias == alias or _database(each) in databases:
            pool.close()


def _database(settings: Settings) -> tuple[str, ...]:
    """Return what tells databases apart, as Django's test runner does."""
    service = (settings.get("OPTIONS") or {}).get("service")
    return (*(str(settings.get(key) or "") for key in ("HOST", "PORT", "NAME")), str(service))


def on_open(listener: Callable[[], None]) -> None:
    """Call `listener` each time a pool starts to work in this process (or in a child)."""
    with _lock:
        if listener not in _open_listeners:
            _open_listeners.append(listener)


def on_fork(listener: Callable[[], None]) -> None:
    """Call `listener` in each forked child, after the inherited pools have been emptied."""
    fork.on_fork(listener)


def _reclaim(who: object) -> None:
    for pool in _all_alive():
        pool.housekeeping.reclaim(who)


def _look_after() -> float | None:
    delays = [pool.look_after() for pool in _all_alive()]
    return min((delay for delay in delays if delay is not None), default=None)


def _tell_opened() -> None:
    borrowers.ensure_running(_reclaim, _look_after)
    borrowers.wake()  # this pool's chores may be due sooner than those of the others
    with _lock:
        listeners = list(_open_listeners)
    for listener in listeners:
        listener()


@atexit.register
def _close_all_at_exit() -> None:
    if fork.unnoticed():
        _forget_in_child()
    # Before the interpreter ends: a psycopg_pool left open waits for each of its threads.
    for pool in _all_alive():
        pool.close(timeout=1.0)


def _forget_in_child() -> None:
    # A thread that doesn't exist here may have held the lock; its data are consistent enough,
    # because they change only by single list and dict operations.
    global _lock, started
    _lock, started = RLock(), time()
    _past.clear()
    _counted.clear()
    borrowers.start_anew()
    watcher.start_anew()
    for pool in _all_alive():
        try:
            pool.forget_inherited()
        except Exception:  # one pool must not leave the others attached to the parent
            logger.exception("Pool %r could not be forgotten in a forked child", pool.name)


fork.on_fork(_forget_in_child)
