"""PostGIS."""

from __future__ import annotations

from .. import driver as driver
