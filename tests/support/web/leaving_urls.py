"""Views whose clients leave while they use the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from django_pooled_pg import cancel_if_abandoned, finish_if_abandoned
from django_pooled_pg.middleware import CancelAbandonedMiddleware

logger = logging.getLogger("django_pooled_pg.tests")


def _sleep(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


@csrf_exempt
def slow(request: HttpRequest) -> HttpResponse:
    """Sleep in the database; say so when that has ended well."""
    _sleep(float(request.GET.get("seconds", 20)))
    logger.info("%s slept well", request.method)
    return HttpResponse("slept well")


async def async_slow(request: HttpRequest) -> HttpResponse:
    await sync_to_async(_sleep)(float(request.GET.get("seconds", 20)))
    return HttpResponse("slept well")


async def async_slow_in_a_thread_of_its_own(request: HttpRequest) -> HttpResponse:
    await sync_to_async(_sleep, thread_sensitive=False)(20)
    return HttpResponse("slept well")


@csrf_exempt
def lock(request: HttpRequest) -> HttpResponse:
    """Wait for an advisory lock; say so when it was had."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [int(request.GET["key"])])
    logger.info("%s had the lock", request.method)
    return HttpResponse("had it")


def goes_on(request: HttpRequest) -> HttpResponse:
    """Take a canceled statement for one that failed, and go on."""
    for _ in range(3):
        try:
            _sleep(20)
        except OperationalError as ex:
            logger.info("went on after %s", type(ex).__name__)
    return HttpResponse("went on")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Send a line, and then ask the database for another."""

    def lines() -> Iterator[str]:
        yield "first\n"
        _sleep(float(request.GET["seconds"]))
        yield "last\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


# Of a thread that holds a connection.
_free = threading.Event()


def hold(request: HttpRequest) -> HttpResponse:
    """Let a thread hold a connection."""
    has_it = threading.Event()

    def keep() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            has_it.set()
            _free.wait(60)
        connection.close()

    _free.clear()
    threading.Thread(target=keep, daemon=True).start()
    has_it.wait(10)
    return HttpResponse("held")


def free(request: HttpRequest) -> HttpResponse:
    _free.set()
    return HttpResponse("free")


def sync_only(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """As middleware was before Django 3.1."""
    return lambda request: get_response(request)


class AsyncOnly(CancelAbandonedMiddleware):
    """For sites under ASGI whose other middleware isn't async-capable."""

    sync_capable = False


urlpatterns = [
    path("slow/", slow),
    path("slow/finished/", finish_if_abandoned(slow)),
    path("slow/canceled/", cancel_if_abandoned(slow)),
    path("async/slow/", async_slow),
    path("async/slow/own/", async_slow_in_a_thread_of_its_own),
    path("lock/", lock),
    path("goes_on/", goes_on),
    path("stream/", stream),
    path("hold/", hold),
    path("free/", free),
    path("", include("tests.support.web.urls")),
]
