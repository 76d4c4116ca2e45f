"""A Django database backend that lends each request a PostgreSQL connection from a pool."""

from __future__ import annotations

from .prewarming import prewarm
from .returning import returning_connections, without_connection

__all__ = ["__version__", "prewarm", "returning_connections", "without_connection"]

__version__ = "0.1.0"
