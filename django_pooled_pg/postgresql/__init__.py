"""PostgreSQL, under a name that ends like Django's own engine's: packages look at it."""

from __future__ import annotations

from .. import driver as driver
