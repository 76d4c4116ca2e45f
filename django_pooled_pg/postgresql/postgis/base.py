"""The door for `ENGINE = "django_pooled_pg.postgresql.postgis"`: `django_pooled_pg.postgis`."""

from __future__ import annotations

from ...postgis.base import DatabaseWrapper

__all__ = ["DatabaseWrapper"]
