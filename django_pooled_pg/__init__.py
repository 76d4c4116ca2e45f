"""A Django database backend that lends each request a PostgreSQL connection from a pool."""

from __future__ import annotations

from .prewarming import prewarm

__all__ = ["__version__", "prewarm"]

__version__ = "0.1.0"
