"""Owns what is known of the web server: how many processes it has, and when it stops a request.

From settings or the environment only: a management command doesn't see the server's command line
and configuration file.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Known:
    """A number, and where it comes from."""

    number: int
    source: str


def processes() -> Known | None:
    """Return how many processes use the database; `None`: not known."""
    gunicorn = _gunicorn()
    # gunicorn's arguments go before WEB_CONCURRENCY, as they do in gunicorn.
    return _first(
        ("POOLED_PG_PROCESSES", getattr(settings, "POOLED_PG_PROCESSES", None)),
        ("--workers in GUNICORN_CMD_ARGS", gunicorn.workers),
        ("WEB_CONCURRENCY", os.environ.get("WEB_CONCURRENCY")),
        ("UWSGI_PROCESSES", os.environ.get("UWSGI_PROCESSES")),
        ("UWSGI_WORKERS", os.environ.get("UWSGI_WORKERS")),
    )


def request_timeout() -> Known | None:
    """Return after how many seconds the web server stops a request; `None`: not known, or never."""
    gunicorn = _gunicorn()
    # Other workers of gunicorn answer its time-out whatever their requests do.
    sync = gunicorn.worker_class in (None, "sync") and gunicorn.threads in (None, "1")
    return _first(
        ("POOLED_PG_REQUEST_TIMEOUT", getattr(settings, "POOLED_PG_REQUEST_TIMEOUT", None)),
        ("--timeout in GUNICORN_CMD_ARGS", gunicorn.timeout if sync else None),
        ("UWSGI_HARAKIRI", os.environ.get("UWSGI_HARAKIRI")),
    )


def _first(*found: tuple[str, object]) -> Known | None:
    return next(_known(found), None)


def _known(found: tuple[tuple[str, object], ...]) -> Iterator[Known]:
    # What isn't a number here, the web server itself refuses; a wrong setting has a check.
    for source, value in found:
        try:
            number = int(str(value))
        except ValueError:
            continue
        if number > 0:
            yield Known(number, source)


def _gunicorn() -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    # nargs: without a value argparse would end the process.
    parser.add_argument("-w", "--workers", nargs="?")
    parser.add_argument("-t", "--timeout", nargs="?")
    parser.add_argument("-k", "--worker-class", nargs="?")
    parser.add_argument("--threads", nargs="?")
    try:
        arguments = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:  # an open quote: gunicorn itself refuses it
        arguments = []
    return parser.parse_known_args(arguments)[0]
