"""Checks that tokens reach the server encrypted; asks no server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage

from ..pooling.config import PoolConfig
from .messages import message

# In order of strictness.
# https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEFAULT = "prefer"
_LOCAL = ("localhost", "127.", "::1", "/")


def check_encryption(
    alias: str, settings: Mapping[str, Any], config: PoolConfig
) -> Iterator[CheckMessage]:
    """Yield a warning if a token of a ready-made provider may be sent unencrypted."""
    least = config.credentials.least_sslmode if config.credentials is not None else None
    options = settings.get("OPTIONS") or {}
    # A service file may set its own sslmode; a proxy on this host does the encryption itself.
    if least is None or "service" in options or _is_local(str(settings.get("HOST") or "")):
        return
    sslmode = options.get("sslmode") or os.environ.get("PGSSLMODE") or _DEFAULT
    # libpq refuses values that it doesn't know.
    if sslmode not in _SSLMODES or _SSLMODES.index(sslmode) >= _SSLMODES.index(least):
        return
    yield message(
        "W016",
        f"'sslmode' {sslmode!r} doesn't protect the token that 'credentials' gets: it may be sent "
        "unencrypted, or to the wrong server.",
        f"Set DATABASES[{alias!r}]['OPTIONS']['sslmode'] to {least!r}"
        + (", and 'sslrootcert' to the provider's certificates." if "verify" in least else "."),
        alias,
    )


def _is_local(host: str) -> bool:
    return not host or host.startswith(_LOCAL)
