"""Connections that note each statement they send to the server, whoever sends it."""

from __future__ import annotations

import re
import tempfile
from typing import Any

import psycopg

_written = tempfile.NamedTemporaryFile(mode="a")  # noqa: SIM115 (for as long as there are connections)
_read = open(_written.name)  # noqa: SIM115


class Traced(psycopg.Connection[Any]):
    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Traced:
        connection = super().connect(*args, **kwargs)
        connection.pgconn.trace(_written.fileno())
        return connection


def statements() -> list[str]:
    """Return what was sent since the last call."""
    # A line of libpq's: time, direction, length, kind, text, which may have more lines.
    messages = re.split(r"(?m)^(?=\d{4}-\d\d-\d\d \d\d:)", _read.read())
    return [message for message in messages if "\tQuery\t" in message or "\tParse\t" in message]
