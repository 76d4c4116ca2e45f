"""A site with django-postgres-extra, as its documentation sets one up."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import databases

DATABASES = databases("psqlextra.backend")
POSTGRES_EXTRA_DB_BACKEND_BASE = "django_pooled_pg"
INSTALLED_APPS = [
    "django.contrib.postgres",
    "psqlextra",
    "django_pooled_pg",
    "tests.packages.dbsites.shop",
]
