"""Decides what a visitor sees while a pool is exhausted; touches no other error."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..pooling.errors import PoolExhausted
from .failures import replaced, unavailable


class PoolExhaustedMiddleware:
    """Answer 503 with `Retry-After` when no connection could be borrowed.

    Put it first in `MIDDLEWARE`, so that it also sees errors from the middleware below it.
    `Retry-After` is the pool's `timeout` in whole seconds: by then, those who wait now have
    been served or turned away. Other errors pass through. Works in sync and async stacks.
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
        return replaced(request, response, _answer)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        return replaced(request, await self.get_response(request), _answer)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return _answer(request, exception)


def _answer(request: HttpRequest, exception: Exception) -> HttpResponse | None:
    if not isinstance(exception, PoolExhausted):
        return None
    retry_after = str(max(1, math.ceil(exception.timeout)))
    text = "The service is busy. Please try again in a moment.\n"
    return unavailable(request, exception, text, **{"Retry-After": retry_after})
