"""Provides a password from a file that something else rotates: a mounted secret, Vault's agent.

Each new connection reads the file: beside connecting, that costs nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from ..pooling.untold import Untold, kind

logger = logging.getLogger(__name__)

# A password from a file is sent like any other.
LEAST_SSLMODE = None

_USER = ("username", "user")


class SecretFile:
    """Returns what the file holds, or what it held when it was last readable."""

    def __init__(self, path: str, is_json: bool) -> None:
        self._path = path
        self._is_json = is_json
        self._last: dict[str, str] | None = None
        # Whether the log says already that the file can't be read.
        self._told = False

    def __call__(self) -> dict[str, str]:
        try:
            with open(self._path, encoding="utf-8") as file:
                found = self._parsed(file.read())
        except OSError as ex:
            problem = f"can't be read ({ex.strerror or type(ex).__name__})"
        except ValueError as ex:
            problem = str(ex) if type(ex) is ValueError else "isn't valid text"
        else:
            self._last, self._told = found, False
            return found
        if self._last is None:
            raise Untold(f"'credentials' (file): the file {problem}")
        if not self._told:
            self._told = True
            logger.warning("The file of 'credentials' %s; its last content stays in use", problem)
        return self._last

    def _parsed(self, text: str) -> dict[str, str]:
        if not text.strip():
            raise ValueError("is empty")
        if not self._is_json:
            return {"password": text.rstrip("\r\n")}
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError("isn't a JSON object")
        password = found.get("password")
        if not isinstance(password, str) or not password:
            raise ValueError(f"has a 'password' {kind(password)}; it has to be a string")
        user = next((found[key] for key in _USER if isinstance(found.get(key), str)), None)
        return {"password": password} if user is None else {"password": password, "user": user}


def provider(
    database: Mapping[str, Any], *, path: str | None = None, format: str = "text"
) -> SecretFile:
    """Return a reader of the file at `path`; `format="json"`: an object of user and password."""
    if path is None or not path.startswith("/"):
        raise ValueError("needs the file: give its absolute path as 'path'")
    if format not in ("text", "json"):
        raise ValueError("has an unknown 'format'; use 'text' or 'json'")
    return SecretFile(path, format == "json")
