"""`exhausted.py`, and `failures.py`, which the middleware share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path, re_path

from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import backend_pid

MakeWrapper = Callable[..., DatabaseWrapper]

busy = SimpleNamespace()  # .wrapper: one whose pool has nothing to lend


def query(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(backend_pid(busy.wrapper)))


async def query_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await asyncio.to_thread(backend_pid, busy.wrapper)))


def render_later(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string("{{ pid }}")
    response = TemplateResponse(request, template, {"pid": lambda: backend_pid(busy.wrapper)})  # type: ignore[arg-type]
    return response


def other_error(request: HttpRequest) -> HttpResponse:
    raise OperationalError("something else")


def fine(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


urlpatterns = [
    path("query", query),
    path("query_async", query_async),
    path("render_later", render_later),
    path("other_error", other_error),
    path("fine", fine),
    re_path("(?s)^lines/", query),
]


def querying_middleware(get_response: Callable[[HttpRequest], Any]) -> Any:
    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        if request.path == "/fine":
            backend_pid(busy.wrapper)
        return response

    return middleware


@pytest.fixture(autouse=True)
def exhausted(make_wrapper: MakeWrapper) -> Iterator[None]:
    options = {"max_size": 1, "timeout": 1}
    holder = make_wrapper(pool=options, alias="busy")
    busy.wrapper = make_wrapper(pool=options, alias="busy")
    holder.ensure_connection()
    busy.wrapper.inc_thread_sharing()
    middleware = ["django_pooled_pg.middleware.PoolExhaustedMiddleware"]
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=[*middleware, f"{__name__}.querying_middleware"]
    ):
        yield


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("url", ["/query", "/query_async", "/render_later", "/fine"])
def test_503_with_retry_after(client: Client, url: str, caplog: pytest.LogCaptureFixture) -> None:
    response = client.get(url)
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    assert b"busy" in response.content
    (record,) = [r for r in caplog.records if r.name == "django_pooled_pg.middleware"]
    assert record.levelname == "ERROR"
    assert "1 of 1 (max_size) connections are in use" in record.getMessage()
    assert url in record.getMessage()


def test_a_visitor_forges_no_line_of_the_log(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lease,) = busy.wrapper.pool.leases()
    monkeypatch.setattr(lease.borrower, "name", "thread\nCRITICAL\x1b[2J")
    response = client.get("/lines/a%0aCRITICAL%20all%20is%20lost%1b%5b2J%e2%80%ae")
    assert response.status_code == 503
    (record,) = [r for r in caplog.records if r.name == "django_pooled_pg.middleware"]
    assert record.getMessage().isprintable()
    assert r"/lines/a\nCRITICAL all is lost\x1b[2J\u202e: Pool" in record.getMessage()


@pytest.mark.parametrize("url", ["/query", "/query_async", "/fine"])
def test_503_in_an_async_stack(url: str) -> None:
    response = asyncio.run(AsyncClient(raise_request_exception=False).get(url))
    assert response.status_code == 503
    assert response["Retry-After"] == "1"


def test_other_errors_go_on(client: Client) -> None:
    response = client.get("/other_error")
    assert response.status_code == 500
    assert "Retry-After" not in response


def test_all_is_well_when_there_is_a_connection(client: Client) -> None:
    busy.wrapper.close_pool()
    assert client.get("/query").status_code == 200
    assert client.get("/fine").content == b"fine"
