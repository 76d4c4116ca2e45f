"""A site with django-pgschemas, as its documentation sets one up."""

from __future__ import annotations

from tests.packages.dbsites.common import *  # noqa: F403
from tests.packages.dbsites.common import WANTED, databases

DATABASES = databases("django_pgschemas.postgresql")
PGSCHEMAS_ORIGINAL_BACKEND = "django_pooled_pg"
PGSCHEMAS_LIMIT_SET_CALLS = WANTED.get("limit_set_calls", False)
DATABASE_ROUTERS = ["django_pgschemas.routers.TenantAppsRouter"]
TENANTS = {
    "public": {
        "APPS": [
            "django_pgschemas",
            "django.contrib.contenttypes",
            "django_pooled_pg",
            "tests.packages.dbsites.pgschemas",
        ]
    },
    "default": {
        "TENANT_MODEL": "pgschemas.Tenant",
        "DOMAIN_MODEL": "pgschemas.Domain",
        "APPS": ["tests.packages.dbsites.notes"],
        "URLCONF": "tests.packages.dbsites.notes.urls",
    },
}
INSTALLED_APPS = [*TENANTS["public"]["APPS"], *TENANTS["default"]["APPS"]]
MIDDLEWARE = ["django_pgschemas.routing.middleware.DomainRoutingMiddleware"]
ROOT_URLCONF = "tests.packages.dbsites.notes.urls"
# It looks for the app of the sessions.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
