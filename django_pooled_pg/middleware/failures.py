"""Remembers the exception behind a failed request, and builds the 503 that answers instead."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..pooling.errors import DeadlineExceeded, PoolExhausted, RequestAbandoned
from ..pooling.printable import printable

logger = logging.getLogger(__package__)

_KINDS = (PoolExhausted, RequestAbandoned, DeadlineExceeded)
_ATTRIBUTE = "_django_pooled_pg_exception"


def _remember(request: HttpRequest | None = None, **kwargs: Any) -> None:
    # Django makes a 500 of what inner middleware raises before an outer one sees it; it sends
    # this signal while the exception is being handled.
    exception = sys.exc_info()[1]
    if request is not None and isinstance(exception, _KINDS):
        setattr(request, _ATTRIBUTE, exception)


got_request_exception.connect(_remember)


def replaced(
    request: HttpRequest,
    response: HttpResponseBase,
    answer: Callable[[HttpRequest, Exception], HttpResponse | None],
) -> HttpResponseBase:
    """Return what `answer` makes of the exception behind a 500, or the response as it is."""
    if response.status_code != 500 or (exception := getattr(request, _ATTRIBUTE, None)) is None:
        return response
    instead = answer(request, exception)
    if instead is None:
        return response
    response.close()
    return instead


def unavailable(
    request: HttpRequest, exception: Exception, text: str, **headers: str
) -> HttpResponse:
    """Log the exception, and return a 503 that says `text`."""
    # Anybody chooses the path, and threads' names are in the message.
    said = printable(request.path), printable(str(exception))
    logger.error("503 for %s: %s", *said, extra={"request": request})
    return HttpResponse(text, status=503, content_type="text/plain", headers=headers)
