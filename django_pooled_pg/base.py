"""The door for `ENGINE = "django_pooled_pg"`: the same engine by a shorter name."""

from __future__ import annotations

from .postgresql.base import DatabaseWrapper

__all__ = ["DatabaseWrapper"]
