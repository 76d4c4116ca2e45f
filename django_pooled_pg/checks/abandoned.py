"""Owns the checks of `CancelAbandonedMiddleware`: its place, its settings, the server it is under."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..middleware.abandoned import (
    ABANDONED_AFTER,
    REQUEST_DEADLINE,
    CancelAbandonedMiddleware,
    configured,
)
from .messages import message

_OURS = "django_pooled_pg."

# By the modules that are there where they are installed.
_TELL = ("gunicorn", "pyuwsgi", "uwsgidecorators", "waitress", "uvicorn", "daphne", "hypercorn")
_TELL_NOTHING = ("mod_wsgi", "bjoern", "cheroot", "granian", "meinheld")


def check_abandoned() -> Iterator[CheckMessage]:
    """Yield what keeps the middleware from its work, or its settings from having an effect."""
    try:
        configured()
    except ImproperlyConfigured as ex:
        yield message("E002", str(ex), "Remove it, or give it seconds.")
    middleware = _middleware()
    position = _position(middleware)
    if position is None:
        for name in (ABANDONED_AFTER, REQUEST_DEADLINE):
            if hasattr(settings, name):
                yield message(
                    "W012",
                    f"{name} is set, but CancelAbandonedMiddleware isn't in MIDDLEWARE, so it has "
                    "no effect.",
                    "Put 'django_pooled_pg.middleware.CancelAbandonedMiddleware' first into "
                    "MIDDLEWARE, or remove the setting.",
                )
        return
    before = [path for path, _ in middleware[:position] if not path.startswith(_OURS)]
    if before:
        yield message(
            "W010",
            f"{before[0]!r} is before CancelAbandonedMiddleware in MIDDLEWARE: what it does with "
            "the database isn't canceled when a client has gone.",
            "Put CancelAbandonedMiddleware first.",
        )
    yield from _threads(middleware, position)


def check_server_tells() -> Iterator[CheckMessage]:
    """Yield if no web server that is installed tells whether a client has gone."""
    silent = [name for name in _TELL_NOTHING if find_spec(name)]
    if silent and not any(map(find_spec, _TELL)) and _position(_middleware()) is not None:
        yield message(
            "W013",
            f"CancelAbandonedMiddleware cancels nothing for clients that leave under {silent[0]}, "
            "which doesn't tell whether they have.",
            "Use one of the servers in docs/abandoned.md, or deadlines only.",
        )


def _threads(middleware: list[tuple[str, Any]], position: int) -> Iterator[CheckMessage]:
    (path, ours), after = middleware[position], middleware[position + 1 :]
    # Django runs all middleware before a sync-only one in a thread, if it goes there at all.
    sync_only = [each for each, what in after if not getattr(what, "async_capable", False)]
    if getattr(settings, "ASGI_APPLICATION", None) and ours.sync_capable and sync_only:
        yield message(
            "W011",
            f"{sync_only[0]!r} is sync-only middleware, and after {path!r} in MIDDLEWARE: under "
            "ASGI that is run in a thread then, and isn't told when clients leave.",
            "Make that middleware async-capable, or let CancelAbandonedMiddleware be async-only.",
        )


def _middleware() -> list[tuple[str, Any]]:
    """Return the paths and what they lead to, of those that lead somewhere."""
    found = []
    for path in settings.MIDDLEWARE:
        try:
            found.append((path, import_string(path)))
        except ImportError:  # the site doesn't start, and says so
            continue
    return found


def _position(middleware: list[tuple[str, Any]]) -> int | None:
    for position, (_, each) in enumerate(middleware):
        if isinstance(each, type) and issubclass(each, CancelAbandonedMiddleware):
            return position
    return None
