"""The databases that Django's tests use: with which engine, and what their server lacks."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import psycopg

from testproject.database import from_url

ReturnAt = Literal["request", "transaction"]

# Those that the migrations of Django's postgres_tests create.
EXTENSIONS = [
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "hstore",
    "pg_trgm",
    "unaccent",
    "uuid-ossp",
]


class Engines(NamedTuple):
    stock: str
    ours: str


PLAIN = Engines("django.db.backends.postgresql", "django_pooled_pg")
POSTGIS = Engines("django.contrib.gis.db.backends.postgis", "django_pooled_pg.postgis")


def stock(url: str, engines: Engines) -> dict[str, Any]:
    """Return DATABASES with Django's own engine, without a pool."""
    return _databases(url, ENGINE=engines.stock)


def ours(url: str, return_at: ReturnAt, engines: Engines) -> dict[str, Any]:
    """Return DATABASES with ours; where it can be, without a word in OPTIONS."""
    databases = _databases(url, ENGINE=engines.ours)
    if return_at != "request":
        for settings in databases.values():
            settings["OPTIONS"]["pool"] = {"return_at": return_at}
    return databases


def _databases(url: str, **changes: Any) -> dict[str, Any]:
    # Tests run in databases whose names begin with test_, made for them; these needn't exist.
    return {
        alias: {**from_url(url), **changes, "NAME": f"pooled_pg_suite_{alias}"}
        for alias in ("default", "other")
    }


def missing_extensions(url: str) -> list[str]:
    sql = "SELECT name FROM pg_available_extensions WHERE name = ANY(%s)"
    with psycopg.connect(url, autocommit=True) as connection:
        there = {name for (name,) in connection.execute(sql, [EXTENSIONS])}
    return [name for name in EXTENSIONS if name not in there]
