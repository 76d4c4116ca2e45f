"""A site that sets the search_path itself. `WANTED["by"]` says how: see switching.py."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import WANTED, databases

DATABASES = databases("django_pooled_pg")
INSTALLED_APPS = ["django_pooled_pg", "tests.packages.dbsites.notes"]
MIDDLEWARE = [f"tests.packages.dbsites.search_path.switching.{WANTED.get('by', 'by_statement')}"]
ROOT_URLCONF = "tests.packages.dbsites.notes.urls"
