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

from .abandoned import cancel_if_abandoned, finish_if_abandoned
from .announcing import connection_borrowed
from .deadlines import deadline
from .pooling.errors import DeadlineExceeded, PoolExhausted, RequestAbandoned
from .prewarming import prewarm
from .returning import returning_connections, without_connection

__all__ = [
    "DeadlineExceeded",
    "PoolExhausted",
    "RequestAbandoned",
    "__version__",
    "cancel_if_abandoned",
    "connection_borrowed",
    "deadline",
    "finish_if_abandoned",
    "prewarm",
    "returning_connections",
    "without_connection",
]

__version__ = "0.1.0"
