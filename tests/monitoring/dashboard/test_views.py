"""`views.py`, with `page.py`, `data.py` and `urls.py`."""

from __future__ import annotations

import json
import os
import re
import time
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client

from django_pooled_pg.monitoring import endpoint
from django_pooled_pg.monitoring.dashboard import views
from django_pooled_pg.monitoring.server import ServerSide, Sessions
from django_pooled_pg.pooling.counters import BOUNDS
from tests.conftest import MakeWrapper
from tests.monitoring.dashboard.conftest import Say, logged_in
from tests.monitoring.dashboard.site import LONG, NASTY, STRICT, busy_pool, holder, many
from tests.monitoring.made_up import pool, report, silent
from tests.support.processes import run_script
from tests.support.queries import hold

pytestmark = pytest.mark.urls("tests.monitoring.dashboard.site")

ALL = ["/pools/", "/pools/metrics"]
SIDE = ServerSide(
    alias="default",
    version="17.2",
    max_connections=100,
    reserved=3,
    total=44,
    sessions=(
        Sessions(
            host="10.0.0.7",
            application_name=NASTY,
            state="idle in transaction",
            count=6,
            longest_in_state=12.3,
            longest_transaction=61.0,
        ),
    ),
)


def text_of(page: bytes) -> str:
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", page.decode()).split()))


# The page


def test_the_page_as_tables(staff: Client, say: Say) -> None:
    say([report(77, busy_pool(), holders=[holder(pinned="SET")]), silent()], SIDE)
    text = text_of(staff.get("/pools/").content)
    assert "77 gunicorn 8/10 5 3 0 1000 0.056 1.6 25.5 31.0 15.5 138 172 180 9 1" in text
    assert "default 77 gunicorn Thread-1 SET 1.5 s views.py:7 in index" in text
    assert "Server of default (PostgreSQL 17.2): 6 connections of this project, 38 " in text
    assert "others, 97 allowed (max_connections 100 less 3 reserved)." in text
    assert "Idle in transaction: 6, longest 12.3 s; longest transaction: 61.0 s." in text
    assert "default 10.0.0.7" in text
    assert "Process 13: no answer within 1 s" in text


def test_what_was_stopped_is_shown_where_anything_was(staff: Client, say: Say) -> None:
    say([report(77, busy_pool(), holders=[holder()])])
    text = text_of(staff.get("/pools/").content)
    assert "Abandoned" not in text
    assert "Past deadline" not in text
    assert "Pinned by Held Place" in text
    counted = {"abandoned_waiting": 3, "abandoned_working": 9, "deadlines": 2}
    holders = [holder(abandoned=True), holder(remaining=2.5), holder(remaining=0.0)]
    say([report(77, busy_pool(**counted), holders=holders)])
    text = text_of(staff.get("/pools/").content)
    assert "Abandoned 12 3 waiting Past deadline 2 Failed connects" in text
    assert "Pinned by Work Held Place" in text
    assert "Thread-1 - abandoned 1.5 s" in text
    assert "Thread-1 - 2.5 s left 1.5 s" in text
    assert "Thread-1 - past its deadline 1.5 s" in text


def test_names_are_text(staff: Client, say: Say) -> None:
    say(many(), SIDE)
    page = staff.get("/pools/").content.decode()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "{{ 7 }}" in page
    assert LONG in page


def test_a_thread_whose_name_is_as_bad_as_can_be_is_shown(
    staff: Client,
    running: Path,
    make_wrapper: MakeWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapper = make_wrapper()
    hold(wrapper)
    assert wrapper.pool is not None
    (lease,) = wrapper.pool.leases()
    monkeypatch.setattr(lease.borrower, "name", "\ud800\x1b[2J" + "x" * 2_000_000)
    page = staff.get("/pools/")
    assert page.status_code == 200
    assert r"<td>\ud800\x1b[2Jxxx" in page.content.decode()


def test_nothing_there(staff: Client, say: Say) -> None:
    say([])
    text = text_of(staff.get("/pools/").content)
    for said in ("No live process of this project has a connection pool.", "Nothing to advise."):
        assert said in text


def test_a_server_that_cannot_be_asked(staff: Client, say: Say) -> None:
    say([report(77, pool())], ServerSide(alias="default", error="connection refused"))
    text = text_of(staff.get("/pools/").content)
    assert "Server of default: can't be asked: connection refused" in text


def test_the_page_needs_nothing_of_the_sites_templates(
    staff: Client, settings: Any, one_busy: None
) -> None:
    settings.TEMPLATES = []
    assert b"77 gunicorn" in staff.get("/pools/").content


def test_nothing_inline_and_nothing_from_elsewhere(staff: Client, one_busy: None) -> None:
    page = staff.get("/pools/").content.decode()
    assert re.findall(r"<script[^>]*>[^<]", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:|//", page.partition("<head>")[2]) == []


# Headers


@pytest.mark.parametrize("path", ALL)
def test_kept_by_nobody(staff: Client, one_busy: None, path: str) -> None:
    assert set(staff.get(path)["Cache-Control"].split(", ")) == {"private", "no-store"}


def test_not_kept_by_the_sites_cache(
    client: Client, staff: Client, settings: Any, one_busy: None
) -> None:
    cache.clear()
    settings.POOLED_PG_METRICS_TOKEN = "x"
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
        *settings.MIDDLEWARE,
    ]
    assert client.get("/pools/metrics", headers={"authorization": "Bearer x"}).status_code == 200
    assert client.get("/pools/metrics").status_code == 403


def test_the_page_brings_its_own_policy(staff: Client, one_busy: None) -> None:
    policy = staff.get("/pools/")["Content-Security-Policy"]
    assert policy.startswith(STRICT)
    assert "frame-ancestors 'none'" in policy


@pytest.mark.skipif(django.VERSION < (6, 0), reason="came with Django 6.0")
def test_djangos_policy_middleware_does_not_get_in_its_way(
    staff: Client, settings: Any, one_busy: None
) -> None:
    settings.SECURE_CSP = {"default-src": ["'none'"], "script-src": ["<CSP_NONCE_SENTINEL>"]}
    settings.MIDDLEWARE = [
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        *settings.MIDDLEWARE,
    ]
    assert staff.get("/pools/")["Content-Security-Policy"].startswith(STRICT)


# What is plotted, and scraped


class Seen(HTMLParser):
    """The page's attributes `data-...`: those of `main`, and of each pool."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.main: dict[str, Any] = {}
        self.pools: list[dict[str, Any]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        data = {name[5:]: text for name, text in attrs if name.startswith("data-")}
        if tag == "main":
            self.main = {name: json.loads(text or "") for name, text in data.items()}
        if ("class", "pool") in attrs:
            self.pools.append({**data, "pools": json.loads(data["pools"] or "")})


def test_figures_for_plots(staff: Client, say: Say) -> None:
    nasty = busy_pool(NASTY, name=NASTY)
    say([report(77, busy_pool(), nasty), report(78, busy_pool()), silent()])
    seen = Seen(staff.get("/pools/").content)
    assert seen.main["bounds"] == list(BOUNDS)
    assert abs(seen.main["time"] - time.time()) < 60
    of_nasty, of_default = seen.pools
    assert (of_nasty["alias"], of_default["alias"]) == (NASTY, "default")
    figures = {figure: nasty[figure] for figure in ("borrows", "wait", "held")}
    assert of_nasty["pools"] == [{"key": f"77 1000.5 {NASTY}", "started": 1000.5, **figures}]
    assert len({pool["key"] for pool in of_default["pools"]}) == 2
    assert {name: of_default[name] for name in ("in_use", "waiting", "size", "max_size")} == {
        **{"in_use": "10", "waiting": "0"},
        **{"size": "16", "max_size": "20"},
    }


def test_the_longest_holders_of_all_processes(staff: Client, say: Say) -> None:
    say([report(n, holders=[holder(held=float(n)), holder(held=n / 2)]) for n in range(1, 30)])
    held = re.findall(r"<td>([0-9.]+) s</td>", staff.get("/pools/").content.decode())
    expected = [*map(float, range(29, 15, -1)), 15.0, 14.5, 14.0, 14.0, 13.5, 13.0]
    assert [*map(float, held)] == expected


def test_metrics(staff: Client, one_busy: None) -> None:
    response = staff.get("/pools/metrics")
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'alias="default"' in response.content.decode()


def test_an_unsafe_folder(staff: Client, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.chmod(0o777)
    for path in ALL:
        response = staff.get(path)
        assert response.status_code == 503
        assert "is open to other users" in response.content.decode()
    assert caplog.text.count("can't be asked") == len(ALL)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_transactions", [False, True])
def test_this_request_holds_nothing_itself(folder: Path, in_transactions: bool) -> None:
    # A live process: this one, whose pool lent the connection that found the user.
    endpoint.ensure_running()
    staff = logged_in(is_staff=True)
    connection.settings_dict["ATOMIC_REQUESTS"] = in_transactions
    try:
        page = staff.get("/pools/").content
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    (pool,) = [pool for pool in Seen(page).pools if pool["alias"] == "default"]
    assert sum(each["borrows"] for each in pool["pools"]) > 0
    assert pool["in_use"] == "0"
    assert f'<th scope="row">default</th><td>{os.getpid()} ' not in page.decode()
    assert "Server of default (PostgreSQL " in page.decode()  # it was asked
    assert User.objects.count() == 1


# Files


@pytest.mark.parametrize(
    ("name", "kind"), [("dashboard.js", "text/javascript"), ("dashboard.css", "text/css")]
)
def test_files(client: Client, name: str, kind: str) -> None:
    response = client.get(f"/pools/{name}")
    assert response["Content-Type"] == f"{kind}; charset=utf-8"
    assert response.content == (Path(views.__file__).parent / "static" / name).read_bytes()
    again = client.get(f"/pools/{name}", headers={"if-none-match": response["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/pools/{name}", headers={"if-none-match": '"x"'}).status_code == 200


def test_no_other_files(client: Client) -> None:
    assert client.get("/pools/views.py").status_code == 404
    assert client.get("/pools/../views.py").status_code == 404


# The site


def test_a_site_without_any_app(folder: Path) -> None:
    script = """
from django.test import Client
from django_pooled_pg.monitoring.dashboard import page
get = Client().get
print(get("/dashboard.js").status_code)
print(get("/metrics", headers={"authorization": "Bearer x"}).status_code)
print("it has no answer" in page.render(None, "it has no answer"))
"""
    said = run_script(
        script,
        {},
        ROOT_URLCONF="django_pooled_pg.monitoring.urls",
        ALLOWED_HOSTS=["testserver"],
        POOLED_PG_METRICS_TOKEN="x",
        POOLED_PG_RUNTIME_DIR=str(folder),
    )
    assert said.split() == ["200", "200", "True"]
