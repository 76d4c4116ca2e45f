"""The site's settings; for development only.

The database is `DATABASE_URL` or, without it, the embedded server. `TESTPROJECT_ENGINE` and
`TESTPROJECT_POOL` (JSON for `OPTIONS["pool"]`) choose the engine and its pool.
"""

from __future__ import annotations

import json
import os

from testproject.database import from_url
from testproject.embedded import database_url

database = from_url(database_url("testproject"))
database["ENGINE"] = os.environ.get("TESTPROJECT_ENGINE", "django_pooled_pg")
database["OPTIONS"].setdefault("application_name", "testproject")
if pool := os.environ.get("TESTPROJECT_POOL"):
    database["OPTIONS"]["pool"] = json.loads(pool)

DATABASES = {"default": database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# No secret: this site never leaves the developer's machine.
SECRET_KEY = "testproject-for-development-only"
DEBUG = os.environ.get("TESTPROJECT_DEBUG", "") not in ("", "0")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_pooled_pg",
    "testproject.library",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "testproject.urls"
WSGI_APPLICATION = "testproject.wsgi.application"
ASGI_APPLICATION = "testproject.asgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
