"""A site with pgvector, as its documentation sets one up."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import databases

DATABASES = databases("django_pooled_pg")
INSTALLED_APPS = ["django.contrib.postgres", "django_pooled_pg", "tests.packages.dbsites.vectors"]
