"""The door for `ENGINE = "django_pooled_pg.postgis"`; as thin as it can be."""

from __future__ import annotations

from django.contrib.gis.db.backends.postgis.base import DatabaseWrapper as PostGISDatabaseWrapper

from ..wrapper import PooledDatabaseMixin


class DatabaseWrapper(PooledDatabaseMixin, PostGISDatabaseWrapper):
    """Django's PostGIS engine, with connections borrowed from a pool."""
