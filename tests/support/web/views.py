"""Views that wait in the database, or ask it in ways of async code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from testproject.library.models import Author, Book


def ping(request: HttpRequest) -> HttpResponse:
    """Answer without the database."""
    return HttpResponse("pong")


def refusal(request: HttpRequest) -> HttpResponse:
    """Tell why there is no connection to be had."""
    try:
        connection.ensure_connection()
    except ImproperlyConfigured as ex:
        return HttpResponse(str(ex))
    return HttpResponse("there is one")


def sleep(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_sleep(request))


async def async_sleep(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await sync_to_async(_sleep)(request))


def _sleep(request: HttpRequest) -> dict[str, Any]:
    """Sleep for `ms` in the database, which says when that began and ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid(), extract(epoch FROM clock_timestamp())::float, "
            "pg_sleep(%s), extract(epoch FROM clock_timestamp())::float",
            [int(request.GET["ms"]) / 1000],
        )
        pid, began, _, ended = cursor.fetchone()
    return {"pid": pid, "began": began, "ended": ended}


def lock(request: HttpRequest) -> HttpResponse:
    _lock(request)
    return HttpResponse("had it")


async def async_lock(request: HttpRequest) -> HttpResponse:
    await sync_to_async(_lock)(request)
    return HttpResponse("had it")


def _lock(request: HttpRequest) -> None:
    """Wait until nobody has the advisory lock `key` to himself."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [int(request.GET["key"])])


async def async_books(request: HttpRequest) -> JsonResponse:
    """Django's async ORM: one row, and many."""
    author = await Author.objects.order_by("pk").afirst()
    assert author is not None
    same = await Author.objects.aget(pk=author.pk)
    titles = [book.title async for book in Book.objects.filter(author=same).order_by("pk")]
    return JsonResponse({"author": same.name, "titles": titles})


async def async_gather(request: HttpRequest) -> JsonResponse:
    """Several questions at once; with `?threads=own` each in a thread of its own."""
    ask = sync_to_async(_backend_pid, thread_sensitive=request.GET.get("threads") != "own")
    return JsonResponse({"pids": await asyncio.gather(*(ask() for _ in range(8)))})


async def async_nested(request: HttpRequest) -> JsonResponse:
    """Sync code that holds a connection calls async code, which asks the database.

    With `?threads=own` the inner question is asked in a thread of its own.
    """
    sensitive = request.GET.get("threads") != "own"

    async def inner() -> int:
        return await sync_to_async(_backend_pid, thread_sensitive=sensitive)()

    def outer() -> list[int]:
        return [_backend_pid(), async_to_sync(inner)()]

    return JsonResponse({"pids": await sync_to_async(outer)()})


def _backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    """One line for each author, from an async generator."""

    async def lines() -> AsyncIterator[str]:
        async for author in Author.objects.order_by("pk"):
            yield f"{author.name}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")
