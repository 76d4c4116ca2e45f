"""Reads database URLs; opens nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


def from_url(url: str) -> dict[str, Any]:
    """Return Django's settings, without the engine, for `postgres://user:pw@host:port/name?o=v`.

    The part after the question mark goes to OPTIONS. Raises `ValueError` for other URLs.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        # Not quoted in the error: it may hold a password.
        raise ValueError("The database URL has to start with postgres:// or postgresql://")
    return {
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query, keep_blank_values=True)),
    }
