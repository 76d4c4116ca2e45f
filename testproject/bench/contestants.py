"""Says who takes part, and with which settings; opens nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

Settings = dict[str, Any]

POSTGRESQL = "django.db.backends.postgresql"
# Nobody should give up waiting: that would be a different measure.
TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to get connections. `settings` returns what it adds to DATABASES for a pool size."""

    key: str
    label: str
    settings: Callable[[int], Settings]
    kind: Literal["django", "connection", "pool"] = "django"
    # Whether the number of its connections is independent of the number of threads.
    pooled: bool = True
    # Its app for INSTALLED_APPS.
    app: str = ""
    # Its module and its distribution, if it isn't one of this project's own.
    module: str = ""
    distribution: str = ""
    # Whether threads are greenlets, which it is made for.
    gevent: bool = False
    # A folder with another version of this project's package.
    tree: str = ""

    def missing(self) -> str:
        """Return why it can't take part, if that is known beforehand."""
        for module in (self.module, "gevent" if self.gevent else ""):
            if module and importlib.util.find_spec(module) is None:
                return f"not installed (pip install {self.distribution})"
        return ""


def _unpooled(age: int | None, checks: bool = False) -> Callable[[int], Settings]:
    return lambda size: {
        "ENGINE": POSTGRESQL,
        "CONN_MAX_AGE": age,
        "CONN_HEALTH_CHECKS": checks,
    }


def _pool(engine: str, checks: bool = False, **options: Any) -> Callable[[int], Settings]:
    def settings(size: int) -> Settings:
        pool = {"min_size": size, "max_size": size, "timeout": TIMEOUT, **options}
        return {"ENGINE": engine, "CONN_HEALTH_CHECKS": checks, "OPTIONS": {"pool": pool}}

    return settings


def _connection_pool(size: int) -> Settings:
    pool = {"POOL_SIZE": size, "MAX_OVERFLOW": 0, "TIMEOUT": TIMEOUT}
    return {"ENGINE": "dj_db_conn_pool.backends.postgresql", "POOL_OPTIONS": pool}


def _geventpool(size: int) -> Settings:
    return {
        "ENGINE": "django_db_geventpool.backends.postgresql_psycopg3",
        "OPTIONS": {"MAX_CONNS": size, "REUSE_CONNS": size, "pool": False},
    }


BARE = Contestant("bare", "one bare connection", lambda size: {}, kind="connection", pooled=False)
PSYCOPG_POOL = Contestant("psycopg_pool", "psycopg_pool, bare", lambda size: {}, kind="pool")
CONNECT = Contestant("connect", "no pool, CONN_MAX_AGE=0", _unpooled(0), pooled=False)
PERSISTENT = Contestant("persistent", "no pool, CONN_MAX_AGE=None", _unpooled(None), pooled=False)
PERSISTENT_CHECKED = Contestant(
    "persistent_checked",
    "no pool, CONN_MAX_AGE=None, health checks",
    _unpooled(None, checks=True),
    pooled=False,
)
DJANGO = Contestant("django", "Django's pool", _pool(POSTGRESQL))
DJANGO_CHECKED = Contestant(
    "django_checked", "Django's pool, health checks", _pool(POSTGRESQL, checks=True)
)
OURS = Contestant("ours", "django_pooled_pg", _pool("django_pooled_pg"), app="django_pooled_pg")
OURS_TRANSACTION = Contestant(
    "ours_transaction",
    "django_pooled_pg, return_at=transaction",
    _pool("django_pooled_pg", return_at="transaction"),
    app="django_pooled_pg",
)
RIVALS = (
    Contestant(
        "pg_real_pool",
        "django-pg-real-pool",
        _pool("django_pg_real_pool"),
        module="django_pg_real_pool",
        distribution="django-pg-real-pool",
    ),
    Contestant(
        "db_connection_pool",
        "django-db-connection-pool",
        _connection_pool,
        module="dj_db_conn_pool",
        distribution="django-db-connection-pool",
    ),
    Contestant(
        "db_geventpool",
        "django-db-geventpool, greenlets",
        _geventpool,
        module="django_db_geventpool",
        distribution="django-db-geventpool gevent",
        gevent=True,
    ),
)
EVERYBODY = (
    BARE,
    PSYCOPG_POOL,
    CONNECT,
    PERSISTENT,
    PERSISTENT_CHECKED,
    DJANGO,
    DJANGO_CHECKED,
    OURS,
    OURS_TRANSACTION,
    *RIVALS,
)

# A prewarmed process: only for the measure of first requests.
PREWARMED = Contestant(
    "ours_prewarmed",
    "django_pooled_pg, prewarm=wait",
    _pool("django_pooled_pg", prewarm="wait"),
    app="django_pooled_pg",
)
PREWARMED_TRANSACTION = Contestant(
    "ours_prewarmed_transaction",
    "django_pooled_pg, prewarm=wait, transaction",
    _pool("django_pooled_pg", prewarm="wait", return_at="transaction"),
    app="django_pooled_pg",
)


def of_tree(name: str, folder: str) -> tuple[Contestant, ...]:
    """Return this project's contestants, but with another folder's version of the package."""
    return tuple(
        replace(
            ours,
            key=f"{ours.key}@{name}",
            label=ours.label.replace("django_pooled_pg", f"django_pooled_pg@{name}"),
            tree=folder,
        )
        for ours in (OURS, OURS_TRANSACTION, PREWARMED)
    )


def database(
    contestant: Contestant, address: Settings, size: int, application_name: str
) -> Settings:
    """Return DATABASES["default"]: where the server is, and what the contestant adds."""
    own = contestant.settings(size)
    options = {
        **address.get("OPTIONS", {}),
        **own.get("OPTIONS", {}),
        "application_name": application_name,
    }
    return {**address, **own, "OPTIONS": options}
