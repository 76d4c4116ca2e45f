from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.request_record import current
from django_pooled_pg.server_timing import ServerTimingMiddleware
from tests.support.queries import backend_pid, fetch
from tests.support.serving import give_wrappers

MakeWrapper = Callable[..., DatabaseWrapper]

site = SimpleNamespace()  # .wrapper, .other, .busy: wrappers that the views use


def query(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(fetch(site.wrapper, "SELECT 1 FROM pg_sleep(0.01)")))


async def query_async(request: HttpRequest) -> HttpResponse:
    await asyncio.gather(
        sync_to_async(backend_pid)(site.wrapper), asyncio.to_thread(backend_pid, site.other)
    )
    return HttpResponse()


def two_aliases(request: HttpRequest) -> HttpResponse:
    backend_pid(site.wrapper)
    backend_pid(site.other)
    backend_pid(site.wrapper)
    return HttpResponse(headers={"Server-Timing": "app;dur=1"})


def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(headers={"Server-Timing": "app;dur=1"})


def fail(request: HttpRequest) -> HttpResponse:
    backend_pid(site.wrapper)
    raise LookupError


def exhausted(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(backend_pid(site.busy)))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    backend_pid(site.wrapper)
    return StreamingHttpResponse(str(backend_pid(site.other)) for _ in range(2))


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def content() -> AsyncIterator[str]:
        yield str(await asyncio.to_thread(backend_pid, site.other))

    await asyncio.to_thread(backend_pid, site.wrapper)
    return StreamingHttpResponse(content())


urlpatterns = [
    path("query", query),
    path("query_async", query_async),
    path("two_aliases", two_aliases),
    path("nothing", nothing),
    path("fail", fail),
    path("exhausted", exhausted),
    path("stream", stream),
    path("stream_async", stream_async),
]


def sync_middleware(get_response: Callable[[HttpRequest], Any]) -> Any:
    def middleware(request: HttpRequest) -> Any:
        return get_response(request)

    return middleware


MIDDLEWARE = [
    "django_pooled_pg.server_timing.ServerTimingMiddleware",
    "django_pooled_pg.middleware.PoolExhaustedMiddleware",
]


@pytest.fixture(autouse=True)
def served(make_wrapper: MakeWrapper) -> Iterator[None]:
    give_wrappers(site, make_wrapper, "books", 'od"d\n\\é')
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE, POOLED_PG_SERVER_TIMING=True
    ):
        yield


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def metrics(header: str) -> list[tuple[str, float, str]]:
    """Parse the header; whatever isn't one of ours is an error."""
    found = []
    for each in re.findall(r'(?:[^",]|"[^"]*")+', header):
        match = re.fullmatch(r'([\w-]+);dur=(\d+\.\d);desc="([^"]*)"', each.strip())
        assert match, each
        found.append((match[1], float(match[2]), match[3]))
    return found


def test_header(client: Client) -> None:
    (wait, _, wait_text), (held, held_ms, held_text), (db, db_ms, db_text) = metrics(
        client.get("/query")["Server-Timing"]
    )
    assert (wait, held, db) == ("pool-wait", "pool-held", "db")
    assert (wait_text, held_text, db_text) == (
        "books: wait, 1 borrow", "books: held", "books: database"
    )  # fmt: skip
    assert 10 <= db_ms <= held_ms


def test_several_aliases_and_a_header_that_is_there(client: Client) -> None:
    before, _, ours = client.get("/two_aliases")["Server-Timing"].partition(", ")
    assert before == "app;dur=1"
    texts = [text for _, _, text in metrics(ours)]
    assert texts[0].startswith("books: wait, ")
    assert texts[3:] == ["od?d???: wait, 1 borrow", "od?d???: held", "od?d???: database"]


def test_a_request_without_borrows(client: Client) -> None:
    assert client.get("/nothing")["Server-Timing"] == "app;dur=1"


def test_a_request_that_fails(client: Client) -> None:
    response = client.get("/fail")
    assert response.status_code == 500
    assert "books: wait, 1 borrow" in response["Server-Timing"]
    assert current() is None


def test_exhausted(client: Client) -> None:
    response = client.get("/exhausted")
    assert response.status_code == 503
    (_, waited, text), *_ = metrics(response["Server-Timing"])
    assert waited >= 900
    assert text == "busy: wait, 0 borrows, 1 exhausted"


@pytest.mark.parametrize("between", [[], [f"{__name__}.sync_middleware"]], ids=["", "sync inside"])
@pytest.mark.parametrize("before", [[], [f"{__name__}.sync_middleware"]], ids=["", "sync outside"])
@pytest.mark.parametrize("url", ["/query", "/query_async"])
def test_in_an_async_stack(url: str, before: list[str], between: list[str]) -> None:
    with override_settings(MIDDLEWARE=[*before, *MIDDLEWARE, *between]):
        response = asyncio.run(AsyncClient().get(url))
    texts = [text for _, _, text in metrics(response["Server-Timing"])]
    assert "books: wait, 1 borrow" in texts
    assert ("od?d???: wait, 1 borrow" in texts) == (url == "/query_async")


def test_an_async_view_in_a_sync_stack(client: Client) -> None:
    texts = [text for _, _, text in metrics(client.get("/query_async")["Server-Timing"])]
    assert sorted(t for t in texts if "wait" in t) == [
        "books: wait, 1 borrow", "od?d???: wait, 1 borrow"
    ]  # fmt: skip


def test_streaming(client: Client) -> None:
    response = client.get("/stream")
    assert "books: wait, 1 borrow" in response["Server-Timing"]
    assert "od?d" not in response["Server-Timing"]
    assert b"".join(response.streaming_content)  # type: ignore[attr-defined]


def test_streaming_in_an_async_stack() -> None:
    async def scenario() -> Any:
        response = await AsyncClient().get("/stream_async")
        return response, b"".join([part async for part in response.streaming_content])

    response, content = asyncio.run(scenario())
    assert "books: wait, 1 borrow" in response["Server-Timing"]
    assert "od?d" not in response["Server-Timing"]
    assert content


@pytest.mark.parametrize("setting", [False, None])
def test_off_unless_it_is_set(client: Client, setting: bool | None) -> None:
    with override_settings(POOLED_PG_SERVER_TIMING=setting):
        assert "Server-Timing" not in client.get("/query")
        with pytest.raises(MiddlewareNotUsed):
            ServerTimingMiddleware(query)
