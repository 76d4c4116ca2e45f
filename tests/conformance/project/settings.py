"""A project as its tests see it: two aliases with pools, given by the environment."""

from __future__ import annotations

import json
import os

DATABASES = json.loads(os.environ["DATABASES"])
INSTALLED_APPS = ["django.contrib.contenttypes", "django_pooled_pg", "books"]
ROOT_URLCONF = "books.urls"
STATIC_URL = "static/"
SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
