"""Tells whether the client of a request has gone, as far as its server lets anybody know.

Each server has its own way, and only waitress's is made for this; if one of them changes, that
server counts as telling nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from ..pooling.process.peers import has_hung_up

Look = Callable[[], bool]


def look_for(request: HttpRequest) -> Look | None:
    """Return a function that tells whether the request's client has gone; `None`: can't be told."""
    environ = getattr(request, "environ", None)
    if not environ:
        return None  # ASGI servers let Django cancel the view
    if (socket := environ.get("gunicorn.socket")) is not None:
        return _look_at(socket)
    for find in (_waitress, _uwsgis, _runservers):
        if (look := find(environ)) is not None:
            return look
    return None


def _waitress(environ: dict[str, Any]) -> Look | None:
    look: Look | None = environ.get("waitress.client_disconnected")
    # Unless it looks ahead, it never reports that a client has gone.
    settings = getattr(getattr(look, "__self__", None), "adj", None)
    return look if getattr(settings, "channel_request_lookahead", 1) else None


def _uwsgis(environ: dict[str, Any]) -> Look | None:
    if "uwsgi.version" not in environ:
        return None
    uwsgi: Any = sys.modules.get("uwsgi")  # the server itself makes it
    try:
        fd = uwsgi.connection_fd()
    except Exception:  # an older one lacks it, and raises anything without a request
        return None
    return _look_at(fd) if fd >= 0 else None


def _runservers(environ: dict[str, Any]) -> Look | None:
    # Django's server reads from a file object around the socket.
    # https://github.com/django/django/blob/main/django/core/servers/basehttp.py
    stream = getattr(environ.get("wsgi.input"), "_read", None)
    raw = getattr(getattr(stream, "__self__", None), "raw", None)
    socket = getattr(raw, "_sock", None)
    return None if socket is None else _look_at(socket)


def _look_at(socket: Any) -> Look:
    """Return a function that looks at a socket, or at a socket's number."""

    def look() -> bool:
        # -1 for a socket that was closed: its request is over.
        number = socket if isinstance(socket, int) else socket.fileno()
        return number >= 0 and has_hung_up(number)

    return look
