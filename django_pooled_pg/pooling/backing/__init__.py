"""The psycopg_pool behind a pool: all that relies on its private names."""

from __future__ import annotations

from .versions import check_classes

check_classes()
