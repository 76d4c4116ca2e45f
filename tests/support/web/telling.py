"""A WSGI application that answers with the error that its query raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testproject.wsgi import application as site

__all__ = ["application"]

from django.core.exceptions import ImproperlyConfigured
from django.db import connection


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/tell/":
        return site(environ, start_response)
    try:
        connection.ensure_connection()
        said = "nothing"
    except ImproperlyConfigured as ex:
        said = str(ex)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said.encode()]
