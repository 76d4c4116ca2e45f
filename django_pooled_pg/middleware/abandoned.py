"""Stops the database work of requests whose client has gone, or whose deadline has passed."""

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
# The attribute of a request that holds its work.
_WATCHED = "_django_pooled_pg_watched"
# nginx's own code, for its log: nobody receives it.
_CLIENT_CLOSED_REQUEST = 499


class _Watched(Work):
    """The work on a request whose client is watched, unless the request has to be finished."""

    __slots__ = ("cancels", "client")

    def __init__(self, request: HttpRequest, look: Look | None, patience: float, limit: float):
        # Tells whether its client has gone, while the request goes on.
        self.client = look
        # Whether it is canceled when its client goes.
        self.cancels = request.method in _SAFE
        Work.__init__(self, limit, self._has_left, patience)

    def _has_left(self) -> bool:
        if not self.cancels:
            return False
        look = self.client
        # Checking it again afterwards proves that the look was at this client: a server may close
        # the socket when the request is over, and its number may be reused.
        return look is not None and look() and self.client is look

    def forget_client(self) -> None:
        # Both: otherwise it would refer to itself, and wait for the garbage collector.
        self.client = self._has_gone = None


class CancelAbandonedMiddleware:
    """Stop a request's work with the database when its client has gone.

    A running statement is canceled in the server, and a wait for a connection ends: the view gets
    `RequestAbandoned`. Applies to GET, HEAD and OPTIONS, unless the view says otherwise with
    `cancel_if_abandoned` or `finish_if_abandoned`. The client is watched once a request has
    lasted `POOLED_PG_ABANDONED_AFTER` seconds (0.1). With `POOLED_PG_REQUEST_DEADLINE` (seconds;
    `None`: none), each request also has a `deadline()`, and gets a 503 when that has passed.

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
            # Django would call the sync one in a thread.
            self.process_view = self.aprocess_view  # type: ignore[assignment,method-assign]
        _install()

    # Each request comes through here: make no unnecessary call.
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
        # Django cancels the view when its client has gone. Threads that work for it go on; if sync
        # middleware is in between, we hear of it only after that has ended.
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
    """Return a function that tells whether this task was canceled, and not just for a moment."""
    task, seen = current_task(), 0
    if task is None:
        return None

    def look() -> bool:
        # `asyncio.timeout()` also cancels the task, but takes that back at once.
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
        # Django's own attribute: without it, Django would log a warning for this status.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response
    if isinstance(exception, DeadlineExceeded) and watched and watched.stopped == DEADLINE:
        text = "This took too long. Please try again later.\n"
        return unavailable(request, exception, text)
    return None


def _log(request: HttpRequest, work: Work) -> None:
    logger.info(
        "%s %s: its client left after %.2f s; its work with the database was stopped",
        request.method,
        printable(request.path),
        monotonic() - work.began,
    )


def _is_to_be_logged(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, RequestAbandoned)


def _install() -> None:
    # Adding it again does nothing: it is the same function.
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
            "CancelAbandonedMiddleware isn't told when clients leave under %s, so it cancels "
            "nothing for them",
            printable(server),
        )
