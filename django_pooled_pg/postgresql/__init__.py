"""PostgreSQL, under a name that ends like that of Django's own engine: packages look at that."""

from __future__ import annotations

from .. import driver as driver
