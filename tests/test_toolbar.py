"""The panel in the real toolbar."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import URLPattern, URLResolver, clear_url_caches, include, path

from django_pooled_pg.base import DatabaseWrapper
from tests.settings import INSTALLED_APPS
from tests.support.queries import backend_pid
from tests.support.serving import give_wrappers

MakeWrapper = Callable[..., DatabaseWrapper]

site = SimpleNamespace()  # .wrapper, .other, .busy: wrappers that the views use


def page() -> HttpResponse:
    return HttpResponse("<html><body>A page</body></html>")


def query(request: HttpRequest) -> HttpResponse:
    backend_pid(site.other)
    backend_pid(site.wrapper)
    with site.wrapper.cursor() as cursor:
        cursor.execute("SET work_mem = '5MB'")
    return page()


async def query_async(request: HttpRequest) -> HttpResponse:
    await asyncio.gather(*(asyncio.to_thread(backend_pid, w) for w in (site.wrapper, site.other)))
    return page()


def exhausted(request: HttpRequest) -> HttpResponse:
    backend_pid(site.busy)
    return page()


def nothing(request: HttpRequest) -> HttpResponse:
    return page()


def data(request: HttpRequest) -> HttpResponse:
    return HttpResponse(json.dumps(backend_pid(site.other)), content_type="application/json")


urlpatterns: list[URLPattern | URLResolver] = [
    path("query", query),
    path("query_async", query_async),
    path("exhausted", exhausted),
    path("nothing", nothing),
    path("data", data),
]


@pytest.fixture(autouse=True)
def served(make_wrapper: MakeWrapper) -> Iterator[None]:
    give_wrappers(site, make_wrapper, "<books>", "other")
    site.wrapper.dec_thread_sharing()  # a connection that is shared stays
    with override_settings(
        DEBUG=True,
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[*INSTALLED_APPS, "debug_toolbar"],
        MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware"],
        DEBUG_TOOLBAR_CONFIG={"SHOW_TOOLBAR_CALLBACK": lambda request: True},
        DEBUG_TOOLBAR_PANELS=[
            "debug_toolbar.panels.history.HistoryPanel",
            "debug_toolbar.panels.sql.SQLPanel",
            "django_pooled_pg.toolbar.PoolPanel",
        ],
    ):
        # Only now: it has models, and can't be imported while it isn't installed.
        urlpatterns.append(path("__debug__/", include("debug_toolbar.urls")))
        clear_url_caches()
        yield
        del urlpatterns[-1]


def panel(client: Client, response: Any) -> list[str]:
    """Load the panel as the browser does; return its headings and rows, as text."""
    found = re.search(r'data-request-id="(\w+)"', response.content.decode())
    assert found
    parameters = {"request_id": found[1], "panel_id": "PoolPanel"}
    content = client.get("/__debug__/render_panel/", parameters).json()["content"]
    rows = re.findall(r"<h4>.*?</h4>|<tr>.*?</tr>|<p>.*?</p>", content, re.DOTALL)
    return [
        " | ".join(
            " ".join(html.unescape(cell).split())
            for cell in re.findall(r">\s*([^<>]*?)\s*</", row)
            if cell
        )
        for row in rows
    ]


MS = r"\d+\.\d\d ms"


def test_panel() -> None:
    client = Client()
    response = client.get("/query")
    subtitle = re.search(r"Pools\s*<br><small>(.*?)</small>", response.content.decode())
    assert subtitle
    assert re.fullmatch(r"3 borrows, waited \d+\.\d ms", subtitle[1])
    heading, _, *rows = panel(client, response)
    totals, (heading_2, _, first, second, third, heading_3, _), pools = (
        rows[:2],
        rows[2:9],
        rows[9:],
    )
    assert (heading, heading_2) == ("This request", "Borrows")
    assert heading_3 == "Pools of this process, at the end of the request"
    assert re.fullmatch(rf"other \| 1 \| {MS} \| {MS} \| {MS} \| 0 \| 0 \| 0 \| 0", totals[0])
    assert re.fullmatch(rf"<books> \| 2 \| {MS} \| {MS} \| {MS} \| 1 \| 1 \| 0 \| 0", totals[1])
    assert re.fullmatch(rf"{MS} \| other \| {MS} \| {MS} so far \| {MS} \| .* in fetch", first)
    assert re.fullmatch(rf"{MS} \| <books> \| {MS} \| {MS} \| {MS} \| .* in fetch", second)
    assert re.fullmatch(
        rf"{MS} \| <books> \| {MS} \| {MS} so far \| {MS}"
        rf" \| pinned by SET, to be reset \| .*test_toolbar.py:\d+ in query",
        third,
    )
    counts = r"\d+ \| \d+ \| \d+ \| \d+"
    for alias, return_at in [("<books>", "transaction"), ("other", "request")]:
        expected = rf"{alias} \| 1 of 10 \| 1 \| 0 \| 0 \| {return_at} \| {counts}"
        assert any(re.fullmatch(expected, row) for row in pools)
    assert "PoolPanel_waited" in response["Server-Timing"]


@pytest.mark.parametrize("url", ["/query", "/query_async"])
def test_in_an_async_stack(url: str) -> None:
    site.wrapper.inc_thread_sharing()
    rows = panel(Client(), asyncio.run(AsyncClient().get(url)))
    assert any(re.match(r"<books> \| 1 \|", row) for row in rows)
    assert any(re.match(r"other \| 1 \|", row) for row in rows)


def test_exhausted() -> None:
    client = Client(raise_request_exception=False)
    response = client.get("/exhausted")
    assert response.status_code == 500
    assert "0 borrows, waited" in response.content.decode()
    rows = panel(client, response)
    assert any(re.match(rf"{MS} \| busy \| \d\d\d+\.\d\d ms \| exhausted", row) for row in rows)


def test_a_request_without_borrows() -> None:
    client = Client()
    response = client.get("/nothing")
    assert "0 borrows, waited 0.0 ms" in response.content.decode()
    assert "It borrowed no connection." in panel(client, response)


def test_history_has_requests_without_a_page() -> None:
    client = Client()
    client.get("/data")
    response = client.get("/nothing")
    found = re.search(r'data-request-id="(\w+)"', response.content.decode())
    assert found
    history = client.get("/__debug__/history_refresh/", {"request_id": found[1]}).json()
    ids = [each["id"] for each in history["requests"]]
    toolbars = [client.get("/__debug__/history_sidebar/", {"request_id": i}).json() for i in ids]
    assert any("1 borrow, waited" in t.get("PoolPanel", {}).get("button", "") for t in toolbars)


def test_a_panel_that_is_switched_off_records_nothing() -> None:
    client = Client()
    client.cookies["djdtPoolPanel"] = "off"
    assert "borrows, waited" not in client.get("/query").content.decode()
