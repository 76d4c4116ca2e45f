"""The `Server-Timing` header, which shows in a browser what a request did with pools.

https://www.w3.org/TR/server-timing/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .request_record import Record, Totals, recording

_HEADER = "Server-Timing"


class ServerTimingMiddleware:
    """Report in `Server-Timing` how long a request waited for connections and held them.

    Does nothing unless the setting `POOLED_PG_SERVER_TIMING` is true when the process starts:
    every visitor of the site can read the header. Put it first in `MIDDLEWARE`, so that it also
    sees what the middleware below it does. It counts what was done until the headers are sent.
    Works in sync and async stacks.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if not getattr(settings, "POOLED_PG_SERVER_TIMING", False):
            raise MiddlewareNotUsed("POOLED_PG_SERVER_TIMING is not set")
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        with recording() as record:
            response: HttpResponseBase = self.get_response(request)
            _add(response, record)
            return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        with recording() as record:
            response: HttpResponseBase = await self.get_response(request)
            _add(response, record)
            return response


def _add(response: HttpResponseBase, record: Record) -> None:
    metrics = [metric for totals in record.totals() for metric in _metrics(totals)]
    if metrics:
        before = [response.headers[_HEADER]] if _HEADER in response.headers else []
        response.headers[_HEADER] = ", ".join(before + metrics)


def _metrics(totals: Totals) -> list[str]:
    alias = _quotable(totals.alias)
    done = f"{totals.borrows} borrow{'' if totals.borrows == 1 else 's'}"
    if totals.exhausted:
        done += f", {totals.exhausted} exhausted"
    if totals.failed:
        done += f", {totals.failed} failed"
    return [
        f'pool-wait;dur={totals.waited * 1000:.1f};desc="{alias}: wait, {done}"',
        f'pool-held;dur={totals.held * 1000:.1f};desc="{alias}: held"',
        f'db;dur={totals.worked * 1000:.1f};desc="{alias}: database"',
    ]


def _quotable(text: str) -> str:
    # For use within quotes, in a header.
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text)
