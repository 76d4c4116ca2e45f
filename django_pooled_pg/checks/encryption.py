"""Owns the check that a token goes to the server encrypted; asks no server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage

from ..pooling.config import PoolConfig
from .messages import message

# Each does what those before it do.
# https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEFAULT = "prefer"
_LOCAL = ("localhost", "127.", "::1", "/")


def check_encryption(
    alias: str, settings: Mapping[str, Any], config: PoolConfig
) -> Iterator[CheckMessage]:
    """Yield a warning where a token of a ready-made provider may be sent as it is."""
    least = config.credentials.least_sslmode if config.credentials is not None else None
    options = settings.get("OPTIONS") or {}
    # What a service file says isn't known here; a proxy on this host encrypts by itself.
    if least is None or "service" in options or _is_local(str(settings.get("HOST") or "")):
        return
    sslmode = options.get("sslmode") or os.environ.get("PGSSLMODE") or _DEFAULT
    # What isn't one, libpq refuses.
    if sslmode not in _SSLMODES or _SSLMODES.index(sslmode) >= _SSLMODES.index(least):
        return
    yield message(
        "W016",
        f"The token that 'credentials' gets goes to the server as it is, and 'sslmode' {sslmode!r} "
        "doesn't make sure that nobody else can read it.",
        f"Set DATABASES[{alias!r}]['OPTIONS']['sslmode'] to {least!r}"
        + (", and 'sslrootcert' to the provider's certificates." if "verify" in least else "."),
        alias,
    )


def _is_local(host: str) -> bool:
    return not host or host.startswith(_LOCAL)
