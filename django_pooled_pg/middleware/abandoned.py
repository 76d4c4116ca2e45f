"""Owns what happens to a request whose client has gone: what it does with the database is stopped."""

from __future__ import annotations

import logging
from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..abandoned import MARK
from ..pooling.errors import DeadlineExceeded, RequestAbandoned
from ..pooling.printable import printable
from ..pooling.work.watcher import enter, leave
from ..pooling.work.work import ABANDONED, DEADLINE, Work
from ..seconds import checked_seconds
from .clients import Look, look_for
from .failures import replaced, unavailable

logger = logging.getLogger(__package__)

ABANDONED_AFTER = "POOLED_PG_ABANDONED_AFTER"
REQUEST_DEADLINE = "POOLED_PG_REQUEST_DEADLINE"

# What HTTP calls safe: https://www.rfc-editor.org/rfc/rfc9110#name-safe-methods
_SAFE = frozenset(["GET", "HEAD", "OPTIONS"])
# What a request is marked with.
_WATCHED = "_django_pooled_pg_watched"
# nginx's own, for its log: nobody reads it.
_CLIENT_CLOSED_REQUEST = 499


class _Watched(Work):
    """The work on a request whose client is watched, unless it has to be finished."""

    __slots__ = ("cancels", "client")

    def __init__(self, request: HttpRequest, look: Look | None, patience: float, limit: float):
        # What tells whether its client has gone, while the request goes on.
        self.client = look
        # Whether it is canceled when its client goes.
        self.cancels = request.method in _SAFE
        Work.__init__(self, limit, self._has_left, patience)

    def _has_left(self) -> bool:
        if not self.cancels:
            return False
        look = self.client
        # The second look tells that what was looked at was the client still: a server may close it
        # when the request is over, and give its number to another one.
        return look is not None and look() and self.client is look

    def forget_client(self) -> None:
        # Also, or it would refer to itself, and be left to the garbage collector.
        self.client = self._has_gone = None


class CancelAbandonedMiddleware:
    """Cancel what a request does with the database when its client has gone.

    A statement is canceled in the server, and a wait for a connection ends: the view gets
    `RequestAbandoned`. Only requests by GET, HEAD and OPTIONS, unless the view says otherwise by
    `cancel_if_abandoned` or `finish_if_abandoned`. The client is looked at once a request has
    lasted `POOLED_PG_ABANDONED_AFTER` seconds (0.1). With `POOLED_PG_REQUEST_DEADLINE` (seconds,
    `None` for none) each request also has a `deadline()`, and is answered 503 when it has passed.

    Put it first in `MIDDLEWARE`: what middleware before it does isn't canceled. Works in sync and
    async stacks. Raises `ImproperlyConfigured` for impossible settings.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._patience, self._limit = configured()
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
            # Django would call the other one in a thread.
            self.process_view = self.aprocess_view  # type: ignore[assignment,method-assign]
        _install()

    # Each request comes through here: no call that isn't needed.
    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        response: HttpResponseBase
        look = look_for(request)
        if look is None:
            _say_unknown(request)
            if self._limit == inf:
                response = self.get_response(request)
                return response
        watched = _Watched(request, look, self._patience, self._limit)
        request.__dict__[_WATCHED] = watched
        try:
            enter(watched)
            response = self.get_response(request)
            if watched.stopped or response.status_code == 500:
                return _answer(request, response, watched)
            return response
        finally:
            watched.forget_client()
            leave(watched)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        # Django cancels the view when its client has gone. What threads do for it goes on; where
        # sync middleware is in between, nobody here hears of it before that is through.
        watched = _Watched(request, _task_look(), self._patience, self._limit)
        request.__dict__[_WATCHED] = watched
        try:
            enter(watched)
            return _answer(request, await self.get_response(request), watched)
        except CancelledError:
            if watched.cancels:
                watched.abandon()
                _log(request, watched)
            raise
        finally:
            watched.forget_client()
            leave(watched)

    def process_view(self, request: HttpRequest, view: Any, *args: Any) -> None:
        cancels = getattr(view, MARK, None)
        if cancels is not None and (watched := getattr(request, _WATCHED, None)) is not None:
            watched.cancels = cancels

    async def aprocess_view(self, request: HttpRequest, view: Any, *args: Any) -> None:
        type(self).process_view(self, request, view)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return _response_to(request, exception)


def _task_look() -> Look | None:
    """Return what tells that this task was canceled, and has not been called back since."""
    task, seen = current_task(), 0
    if task is None:
        return None

    def look() -> bool:
        # `asyncio.timeout()` cancels the task, too, but takes that back at once.
        nonlocal seen
        seen = seen + 1 if task.cancelling() else 0
        return seen > 1

    return look


def configured() -> tuple[float, float]:
    """Return the seconds of patience and of the deadline (infinite if there is none).

    Raises `ImproperlyConfigured`.
    """
    patience = getattr(settings, ABANDONED_AFTER, 0.1)
    limit = getattr(settings, REQUEST_DEADLINE, None)
    try:
        patience = checked_seconds(patience, ABANDONED_AFTER, may_be_zero=True)
        return patience, inf if limit is None else checked_seconds(limit, REQUEST_DEADLINE)
    except (TypeError, ValueError) as ex:
        raise ImproperlyConfigured(f"{ex}.") from ex


def _answer(
    request: HttpRequest, response: HttpResponseBase, watched: _Watched
) -> HttpResponseBase:
    if watched.stopped == ABANDONED:
        _log(request, watched)
    return replaced(request, response, _response_to)


def _response_to(request: HttpRequest, exception: Exception) -> HttpResponse | None:
    watched = getattr(request, _WATCHED, None)
    if isinstance(exception, RequestAbandoned):
        response = HttpResponse(status=_CLIENT_CLOSED_REQUEST)
        # Django's: else it warns of the status.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response
    if isinstance(exception, DeadlineExceeded) and watched and watched.stopped == DEADLINE:
        text = "This took too long. Please try again later.\n"
        return unavailable(request, exception, text)
    return None


def _log(request: HttpRequest, work: Work) -> None:
    logger.info(
        "%s %s: its client has gone after %.2f s; what it did with the database was stopped",
        request.method,
        printable(request.path),
        monotonic() - work.began,
    )


def _is_to_be_logged(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, RequestAbandoned)


def _install() -> None:
    # Once: it is the same function.
    logging.getLogger("django.request").addFilter(_is_to_be_logged)


_said: set[str] = set()


def _say_unknown(request: HttpRequest) -> None:
    if hasattr(request, "scope"):
        server = "ASGI, because of sync-only middleware after it in MIDDLEWARE"
    else:
        server = str(request.META.get("SERVER_SOFTWARE", ""))
    if server and server not in _said:  # Django's test client has none
        _said.add(server)
        logger.warning(
            "CancelAbandonedMiddleware isn't told when clients leave, and cancels nothing for those "
            "who do, under %s",
            printable(server),
        )
