"""A site with geometries, and the types of other extensions, in its migrations."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import databases

DATABASES = databases("django_pooled_pg.postgis")
INSTALLED_APPS = [
    "django.contrib.postgres",
    "django.contrib.gis",
    "django_pooled_pg",
    "tests.packages.dbsites.geo",
]
