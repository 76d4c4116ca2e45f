"""A site with one pool, whose tests use the assertions."""

from __future__ import annotations

import json
import os

DATABASES = json.loads(os.environ["DATABASES"])
INSTALLED_APPS = ["django.contrib.contenttypes", "django_pooled_pg", "shop"]
MIDDLEWARE: list[str] = []
STATIC_URL = "static/"
ROOT_URLCONF = "shop.views"
ALLOWED_HOSTS = ["testserver", "localhost"]
SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
