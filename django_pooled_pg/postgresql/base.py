"""The door for `ENGINE = "django_pooled_pg.postgresql"`; as thin as it can be."""

from __future__ import annotations

from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLDatabaseWrapper

from ..wrapper import PooledDatabaseMixin


class DatabaseWrapper(PooledDatabaseMixin, PostgreSQLDatabaseWrapper):
    """Django's PostgreSQL engine, with connections borrowed from a pool."""
