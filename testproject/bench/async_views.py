"""The views of the async measure: the same queries, run in each way that a contestant offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path


async def _in_thread(sql: str) -> None:
    """Queries as the ORM's own asynchronous methods do."""

    def query() -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.fetchone()

    await sync_to_async(query)()


async def _aio(sql: str) -> None:
    from django_pooled_pg import aio

    async with aio.connection() as lent:
        await (await lent.execute(sql)).fetchone()


async def _bare(sql: str) -> None:
    async with (await _bare_pool()).connection() as lent:
        await (await lent.execute(sql)).fetchone()


async def _async_backend(sql: str) -> None:
    from django_async_backend.db import async_connections

    async with await async_connections["default"].cursor() as cursor:
        await cursor.execute(sql)
        await cursor.fetchone()


_opened: list[Any] = []


@cache
def _lock() -> asyncio.Lock:
    return asyncio.Lock()


async def _bare_pool() -> Any:
    async with _lock():
        if not _opened:
            from psycopg_pool import AsyncConnectionPool

            settings = connection.settings_dict
            size = settings["OPTIONS"]["pool"]["max_size"]
            params = {**connection.get_connection_params(), "autocommit": True}
            for name in ("pool", "cursor_factory", "context"):
                params.pop(name, None)
            pool = AsyncConnectionPool(min_size=size, max_size=size, kwargs=params, open=False)
            await pool.open()
            _opened.append(pool)
    return _opened[0]


WAYS: dict[str, Callable[[str], Awaitable[None]]] = {
    "thread": _in_thread,
    "aio": _aio,
    "bare": _bare,
    "async_backend": _async_backend,
}


async def page(request: HttpRequest, way: str) -> HttpResponse:
    """Run that many `queries`, with a `pause` in seconds between them."""
    queries, pause = int(request.GET["queries"]), float(request.GET["pause"])
    for number in range(queries):
        if number:
            await asyncio.sleep(pause)
        await WAYS[way]("SELECT 1")
    return HttpResponse("done")


async def long(request: HttpRequest, way: str) -> HttpResponse:
    """Run a query that takes `seconds`."""
    await WAYS[way](f"SELECT pg_sleep({float(request.GET['seconds'])})")
    return HttpResponse("done")


async def events(request: HttpRequest, way: str) -> StreamingHttpResponse:
    """Send an event each second, which takes one query."""

    async def stream() -> AsyncIterator[str]:
        while True:
            await WAYS[way]("SELECT 1")
            yield "data: done\n\n"
            await asyncio.sleep(1)

    return StreamingHttpResponse(stream(), content_type="text/event-stream")


urlpatterns = [
    path("<str:way>/page", page),
    path("<str:way>/long", long),
    path("<str:way>/events", events),
]
