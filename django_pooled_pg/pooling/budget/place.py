"""Says where a budget is: which file, in which folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

# What libpq reads from the environment if a setting is empty.
_IN_ENVIRONMENT = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER"}


@dataclass(frozen=True, slots=True)
class Place:
    """Identifies a budget: `shown` is for people, `key` for the names of its files.

    `folder` returns the folder, makes it if needed, and raises `OSError` if it can't be used.
    """

    shown: str
    key: str
    folder: Callable[[], Path]

    def file(self) -> Path:
        return self.folder() / f"budget-{self.key}"

    def prefix(self) -> str:
        """Return how the paths of the members' sockets begin; a member's index follows."""
        return str(self.folder() / f"b{self.key}-")


def place_of(settings: Mapping[str, Any], name: str | None, folder: Callable[[], Path]) -> Place:
    """Return the place of the budget of that name or, without one, of the server and user."""
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
