"""Tells what is known of the web server: its number of processes, its request timeout.

Only from settings and the environment: a management command doesn't see the server's command line
or configuration file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Known:
    """A number, and where it was found."""

    number: int
    source: str


def processes() -> Known | None:
    """Return how many processes use the database; `None`: not known."""
    # The variables are gunicorn's and uWSGI's.
    return _known("POOLED_PG_PROCESSES", "WEB_CONCURRENCY", "UWSGI_PROCESSES", "UWSGI_WORKERS")


def request_timeout() -> Known | None:
    """Return after how many seconds the web server stops a request; `None`: unknown or never."""
    return _known("POOLED_PG_REQUEST_TIMEOUT", "UWSGI_HARAKIRI")


def _known(setting: str, *variables: str) -> Known | None:
    found = [(setting, getattr(settings, setting, None))]
    found += [(variable, os.environ.get(variable)) for variable in variables]
    for source, value in found:
        # The web server itself refuses a variable that isn't a number; a check finds bad settings.
        try:
            number = int(str(value))
        except ValueError:
            continue
        if number > 0:
            return Known(number, source)
    return None
