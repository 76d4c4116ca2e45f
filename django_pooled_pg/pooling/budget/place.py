"""Owns where a budget is: which file, in which folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

# What libpq looks for in the environment where a setting is empty.
_IN_ENVIRONMENT = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER"}


@dataclass(frozen=True, slots=True)
class Place:
    """Which budget it is: `shown` is for people, `key` for the names of its files.

    `folder` makes the folder, if need be, and raises `OSError` if it can't be used.
    """

    shown: str
    key: str
    folder: Callable[[], Path]

    def file(self) -> Path:
        return self.folder() / f"budget-{self.key}"

    def prefix(self) -> str:
        """Return what the paths begin with at which members are woken; their index follows."""
        return str(self.folder() / f"b{self.key}-")


def place_of(settings: Mapping[str, Any], name: str | None, folder: Callable[[], Path]) -> Place:
    """Return the place of the budget with a name or, without one, of the server and user."""
    if name is not None:
        identity = shown = f"budget {name!r}"
    else:
        host, port, user = (
            str(settings.get(key) or environ.get(variable, ""))
            for key, variable in _IN_ENVIRONMENT.items()
        )
        service = (settings.get("OPTIONS") or {}).get("service") or environ.get("PGSERVICE", "")
        shown = (
            f"budget for {host or 'this host'}{port and f':{port}'} as {user or 'the default user'}"
        )
        identity = repr((host, port, user, str(service)))
        if service:
            shown = f"budget for service {service}"
    key = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:8]
    return Place(shown, key, folder)
