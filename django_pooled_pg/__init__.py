"""A Django database backend that lends each request a PostgreSQL connection from a pool."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

try:
    import psycopg as _psycopg  # noqa: F401  # only to see that it is there
except ImportError as ex:  # not installed, or without libpq; psycopg2 doesn't help
    raise ImproperlyConfigured(
        f"django_pooled_pg needs psycopg 3, which can't be imported ({ex}). "
        'Run: pip install "psycopg[binary]"'
    ) from ex

from .announcing import connection_borrowed
from .prewarming import prewarm
from .returning import returning_connections, without_connection

__all__ = [
    "__version__",
    "connection_borrowed",
    "prewarm",
    "returning_connections",
    "without_connection",
]

__version__ = "0.1.0"
