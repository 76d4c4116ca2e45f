"""Owns what a visitor sees while a pool is exhausted; touches no other error."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..pooling.errors import PoolExhausted
from ..pooling.printable import printable

logger = logging.getLogger(__package__)

_ATTRIBUTE = "_django_pooled_pg_exhausted"


class PoolExhaustedMiddleware:
    """Answer 503 with `Retry-After` when no connection could be borrowed.

    Put it first in `MIDDLEWARE`, so that it sees what middleware below it runs into, too.
    `Retry-After` is the pool's `timeout`, in whole seconds: by then those who wait now have
    been served or turned away. Other errors go on as ever. Works in sync and async stacks.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        response: HttpResponseBase = self.get_response(request)
        return _replaced(request, response)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        return _replaced(request, await self.get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return _unavailable(request, exception) if isinstance(exception, PoolExhausted) else None


def _replaced(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    exception = getattr(request, _ATTRIBUTE, None)
    if exception is None or response.status_code != 500:
        return response
    response.close()
    return _unavailable(request, exception)


def _unavailable(request: HttpRequest, exception: PoolExhausted) -> HttpResponse:
    # Anybody chooses the path, and threads' names are in the message.
    said = printable(request.path), printable(str(exception))
    logger.error("503 for %s: %s", *said, extra={"request": request})
    return HttpResponse(
        "The service is busy. Please try again in a moment.\n",
        status=503,
        content_type="text/plain",
        headers={"Retry-After": str(max(1, math.ceil(exception.timeout)))},
    )


def _remember(request: HttpRequest | None = None, **kwargs: Any) -> None:
    # Django makes a 500 of what inner middleware raises before an outer one sees it; it sends
    # this signal while the exception is being handled.
    exception = sys.exc_info()[1]
    if request is not None and isinstance(exception, PoolExhausted):
        setattr(request, _ATTRIBUTE, exception)


got_request_exception.connect(_remember)
