"""A site whose engine is the one that the documentation writes for django-prometheus."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import databases

DATABASES = databases("books_engine")
# To nobody.
DATABASES["nowhere"] = {**DATABASES["default"], "PORT": "1"}
INSTALLED_APPS = ["django_prometheus", "django_pooled_pg", "tests.packages.dbsites.notes"]
