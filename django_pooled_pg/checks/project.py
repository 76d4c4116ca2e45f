"""Checks the settings that belong to no alias: `POOLED_PG_...` and the middleware."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from django.conf import settings
from django.core.checks import CheckMessage

from ..pooling.untold import shown
from . import serving
from .messages import message

KNOWN = {
    "POOLED_PG_ABANDONED_AFTER",
    "POOLED_PG_METRICS_TOKEN",
    "POOLED_PG_PROCESSES",
    "POOLED_PG_REQUEST_DEADLINE",
    "POOLED_PG_REQUEST_TIMEOUT",
    "POOLED_PG_RUNTIME_DIR",
    "POOLED_PG_SERVER_TIMING",
}
_NUMBERS = {
    "POOLED_PG_PROCESSES": "a whole number of processes",
    "POOLED_PG_REQUEST_TIMEOUT": "whole seconds",
}
_MIDDLEWARE = "django_pooled_pg.middleware.PoolExhaustedMiddleware"


def check_settings() -> Iterator[CheckMessage]:
    """Yield what is wrong with the `POOLED_PG_...` settings."""
    for name in sorted(name for name in dir(settings) if name.startswith("POOLED_PG_")):
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.0)[0]
            yield message(
                "W001",
                f"The setting {name} is unknown, so it has no effect.",
                f"Did you mean {near}? The known ones are {', '.join(sorted(KNOWN))}.",
            )
    for name, wanted in _NUMBERS.items():
        value = getattr(settings, name, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield message(
                "E002",
                f"{name} is {shown(value)}; give {wanted}, at least 1, or None.",
                "Without it, the checks look at the environment.",
            )


def check_deployment() -> Iterator[CheckMessage]:
    """Yield what matters only in production: `manage.py check --deploy`."""
    if _MIDDLEWARE not in settings.MIDDLEWARE:
        yield message(
            "I007",
            "When a pool is exhausted, visitors get a 500 error.",
            f"Put {_MIDDLEWARE!r} first in MIDDLEWARE: visitors then get a 503 with Retry-After.",
        )
    if serving.processes() is None:
        yield message(
            "I008",
            "The number of processes that use the database isn't known, so "
            "`manage.py check --database` can't tell whether their connections fit.",
            "Set POOLED_PG_PROCESSES to the number of processes on all hosts together.",
        )
