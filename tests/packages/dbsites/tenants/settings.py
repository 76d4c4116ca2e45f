"""A site with django-tenants, as its documentation sets one up."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import WANTED, databases

DATABASES = databases("django_tenants.postgresql_backend")
ORIGINAL_BACKEND = "django_pooled_pg"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_LIMIT_SET_CALLS = WANTED.get("limit_set_calls", False)
TENANT_MODEL = "tenants.Client"
TENANT_DOMAIN_MODEL = "tenants.Domain"
SHARED_APPS = [
    "django_tenants",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django_pooled_pg",
    "tests.packages.dbsites.tenants",
]
TENANT_APPS = ["tests.packages.dbsites.notes"]
INSTALLED_APPS = SHARED_APPS + TENANT_APPS
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware"]
ROOT_URLCONF = "tests.packages.dbsites.notes.urls"
