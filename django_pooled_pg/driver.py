"""Says what to install if psycopg 3 is missing; whatever needs psycopg imports this first."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

try:
    import psycopg as _psycopg  # noqa: F401  # only to see whether it works
except ImportError as ex:  # not installed, or without libpq; psycopg2 doesn't help
    raise ImproperlyConfigured(
        f"django_pooled_pg needs psycopg 3, which can't be imported ({ex}). "
        'Run: pip install "psycopg[binary]"'
    ) from ex
