"""Checks `CancelAbandonedMiddleware`: its position, its settings, the web server around it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .messages import message

_OURS = "django_pooled_pg."
# Subclasses are recognized by name, so that sites without the middleware import nothing.
_NAME = "CancelAbandonedMiddleware"
_SETTINGS = ("POOLED_PG_ABANDONED_AFTER", "POOLED_PG_REQUEST_DEADLINE")

# Each server is known by a module that its installation brings.
_TELL = ("gunicorn", "pyuwsgi", "uwsgidecorators", "waitress", "uvicorn", "daphne", "hypercorn")
_TELL_NOTHING = ("mod_wsgi", "bjoern", "cheroot", "granian", "meinheld")


def check_abandoned() -> Iterator[CheckMessage]:
    """Yield what keeps the middleware from working, or its settings from having an effect."""
    given = [name for name in _SETTINGS if hasattr(settings, name)]
    if given:
        yield from _impossible()
    position = _position()
    if position is None:
        for name in given:
            yield message(
                "W012",
                f"{name} is set, but CancelAbandonedMiddleware isn't in MIDDLEWARE, so it has no "
                "effect.",
                "Put 'django_pooled_pg.middleware.CancelAbandonedMiddleware' first in MIDDLEWARE, "
                "or remove the setting.",
            )
        return
    before = [path for path in settings.MIDDLEWARE[:position] if not path.startswith(_OURS)]
    if before:
        yield message(
            "W010",
            f"{before[0]!r} comes before CancelAbandonedMiddleware in MIDDLEWARE: what it does "
            "with the database isn't canceled when a client has gone.",
            "Put CancelAbandonedMiddleware first.",
        )
    if getattr(settings, "ASGI_APPLICATION", None):
        yield from _threads(position)


def check_server_tells() -> Iterator[CheckMessage]:
    """Yield a warning if no installed web server tells whether a client has gone."""
    silent = [name for name in _TELL_NOTHING if find_spec(name)]
    if silent and not any(map(find_spec, _TELL)) and _position() is not None:
        yield message(
            "W013",
            f"Under {silent[0]}, CancelAbandonedMiddleware cancels nothing for clients that leave: "
            "this server doesn't tell whether they have.",
            "Use one of the servers in docs/abandoned.md, or rely on deadlines alone.",
        )


def _impossible() -> Iterator[CheckMessage]:
    from ..middleware.abandoned import configured

    try:
        configured()
    except ImproperlyConfigured as ex:
        yield message("E002", str(ex), "Remove the setting, or set it to a number of seconds.")


def _threads(position: int) -> Iterator[CheckMessage]:
    path, after = settings.MIDDLEWARE[position], settings.MIDDLEWARE[position + 1 :]
    # Under a sync-only middleware, Django runs everything that comes before it in a thread, too.
    sync_only = [each for each in after if not _can(each, "async_capable", default=False)]
    if sync_only and _can(path, "sync_capable", default=True):
        yield message(
            "W011",
            f"{sync_only[0]!r} is sync-only middleware and comes after {path!r} in MIDDLEWARE: "
            "under ASGI, Django then runs both in a thread, which isn't told when clients leave.",
            "Make that middleware async-capable, or make CancelAbandonedMiddleware async-only.",
        )


def _can(path: str, what: str, *, default: bool) -> bool:
    try:
        return bool(getattr(import_string(path), what, default))
    except ImportError:  # the site won't start, and Django says why
        return True


def _position() -> int | None:
    for position, path in enumerate(settings.MIDDLEWARE):
        if path.rpartition(".")[2].endswith(_NAME):
            return position
    return None
