"""The page in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_pooled_pg.monitoring.dashboard import page as html
from django_pooled_pg.monitoring.dashboard.data import View
from django_pooled_pg.monitoring.figures import percentile
from django_pooled_pg.monitoring.server import ServerSide
from django_pooled_pg.pooling.counters import BOUNDS
from tests.monitoring.dashboard.conftest import Say
from tests.monitoring.dashboard.site import NASTY, busy_pool, holder, many
from tests.monitoring.dashboard.test_views import SIDE
from tests.monitoring.made_up import buckets, durations, report, silent
from tests.support.waiting import wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

pytestmark = pytest.mark.urls("tests.monitoring.dashboard.site")

DESKTOP = {"width": 1280, "height": 900}
NOON = datetime(2026, 5, 1, 12)
PHONE = {"width": 360, "height": 780}
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]

Open = Callable[..., Any]


@pytest.fixture
def session(transactional_db: None, client: Client) -> str:
    client.force_login(User.objects.create_user("op", is_staff=True))
    return client.cookies["sessionid"].value


@pytest.fixture
def open_page(session: str, settings: Any, live_server: Any) -> Iterator[Open]:
    """Open the dashboard, logged in: `open_page(color_scheme="dark", ...)`.

    With `answers`, it and its polls get these in place of the site's (a number is a status, `None`
    is silence), the last one again and again; `page.asked` has the requests, and the page's time
    stands still but for `page.clock`. The site sends a strict policy. At the end nothing was
    complained of, and nothing was asked of another host.
    """
    settings.MIDDLEWARE = ["tests.monitoring.dashboard.site.strict_policy", *settings.MIDDLEWARE]
    complaints: list[str] = []
    requests: list[str] = []
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=installed)
        except playwright.Error as ex:
            pytest.skip(f"no browser: {str(ex).splitlines()[0]}")

        def open_page(answers: Sequence[Any] = (), **options: Any) -> Any:
            context = browser.new_context(**{"viewport": DESKTOP, **options})
            context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.complaints = complaints
            if answers:
                page.clock.install(time=NOON)
                page.clock.pause_at(NOON + timedelta(seconds=1))
                page.asked = answering(page, answers)
            page.goto(f"{live_server.url}/pools/")
            return page

        yield open_page
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((live_server.url, "data:"))] == []


def answering(page: Any, answers: Sequence[Any]) -> list[Any]:
    asked: list[Any] = []

    def answer(route: Any) -> None:
        asked.append(route)
        given = answers[min(len(asked), len(answers)) - 1]
        if isinstance(given, int):
            route.fulfill(status=given)
        elif given is not None:
            route.fulfill(body=given, content_type="text/html")

    page.route("**/pools/", answer)
    return asked


def live(page: Any) -> Any:
    playwright.expect(page.locator("#state")).to_have_text("Live")
    return page


def poll_again(page: Any, after: int = 2000) -> None:
    """Let the page's time go on, by milliseconds, until it polls; wait until it has the answer."""
    before = len(page.asked)
    page.clock.run_for(after)
    wait_until(lambda: not page.evaluate("busy") and len(page.asked) == before + 1)


def cells(page: Any) -> list[list[str]]:
    tables: list[list[str]] = page.locator("main table").evaluate_all(
        "tables => tables.map(t => [...t.querySelectorAll('th, td')].map(c => c.textContent))"
    )
    return tables


# What is seen


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_many_pools_with_long_names(
    open_page: Open, say: Say, scheme: str, viewport: dict[str, int]
) -> None:
    say(many(), SIDE)
    page = live(open_page(color_scheme=scheme, viewport=viewport))
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert page.locator("img").count() == 0
    assert page.locator(".pool").count() == 2
    assert NASTY in page.locator("#holders").inner_text()
    background, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert contrast(background, text) > 7
    assert (brightness(background) > 0.5) == (scheme == "light")


def brightness(color: str) -> float:
    parts = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([brightness(one), brightness(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_have_contrast(open_page: Open, say: Say, scheme: str) -> None:
    say([*many(), silent()], SIDE, ServerSide(alias="other", error="refused"))
    page = live(open_page(color_scheme=scheme))
    pairs = page.evaluate("""() => [...document.querySelectorAll("main *")]
        .filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => {
            let back = e;
            while (getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)") back = back.parentElement;
            return [getComputedStyle(e).color, getComputedStyle(back).backgroundColor];
        })""")
    assert len(pairs) > 200
    assert {pair for pair in map(tuple, pairs) if contrast(*pair) < 4.5} == set()


def test_without_javascript_it_is_the_same_tables(open_page: Open, say: Say) -> None:
    say([*many(), silent()], SIDE)
    plain = open_page(java_script_enabled=False)
    assert plain.locator(".pool").count() == 2
    assert plain.locator("#refresh").is_visible()
    assert not plain.locator("#pause").is_visible()
    assert not plain.locator(".plots").first.is_visible()
    with_script = live(open_page())
    assert cells(with_script) == cells(plain)
    assert len(cells(plain)) == 4
    for selector in ("#silent", "#advice", ".tiles", "#server"):
        texts = [" ".join(p.locator(selector).all_inner_texts()) for p in (with_script, plain)]
        assert texts[0] == texts[1]


def test_nothing_there_and_then_something(open_page: Open, say: Say) -> None:
    say([])
    nothing = stats(100.0)
    something = stats(102.0, busy_pool(), holders=[holder()])
    page = live(open_page([nothing, something, stats(104.0)]))
    expect = playwright.expect
    expect(page.locator("#none")).to_be_visible()
    expect(page.locator("#no-holders")).to_be_visible()
    poll_again(page)
    expect(page.locator("#none")).to_be_hidden()
    expect(page.locator("#holders")).to_contain_text("Thread-1")
    poll_again(page)
    expect(page.locator(".pool")).to_have_count(0)
    expect(page.locator("#holders")).to_be_hidden()


def test_it_can_be_used_by_those_who_do_not_see_it(open_page: Open, one_busy: None) -> None:
    page = live(open_page())
    for table in page.locator("table").all():
        assert table.locator("caption").count() == 1
        assert table.locator("th:not([scope])").count() == 0
    labels = page.locator("svg").evaluate_all("all => all.map(svg => svg.ariaLabel)")
    assert labels[0] == (
        "Connections, last 5 minutes: in use 5 now, 5 at most; waiting 0 now, 0 at most; "
        "size 8 now, 8 at most; max 10 now, 10 at most"
    )
    assert len(labels) == 4
    assert page.locator("[role=status], [aria-live]").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "pause"


# Figures


def stats(
    time: float,
    *pools: dict[str, Any],
    started: float = 1.0,
    holders: Sequence[dict[str, Any]] = (),
) -> str:
    """The page that the site answers with at that time."""
    said = report(77, *pools, holders=list(holders))
    assert said.snapshot is not None
    said.snapshot["started"] = started
    return html.render(View(time=time, reports=[said], server={}, advice=[]))


def test_plots_show_what_happened_between_two_looks(open_page: Open, one_busy: None) -> None:
    first = busy_pool()
    second = busy_pool(
        borrows=first["borrows"] + 30,
        held_buckets=[
            a + b for a, b in zip(first["held"]["buckets"], buckets(*[1.5] * 9), strict=True)
        ],
        held_max=1.9,
    )
    restarted = busy_pool(borrows=8, held_buckets=buckets(0.004))
    third = stats(106.0, restarted, started=104.0)
    page = live(open_page([stats(100.0, first), stats(102.0, second), third]))
    legends = page.locator(".legend")
    playwright.expect(legends.nth(1)).to_have_text("borrows -")
    poll_again(page)
    playwright.expect(legends.nth(1)).to_have_text("borrows 15")
    assert legends.nth(2).inner_text().split() == ["p50", "-", "p95", "-", "p99", "-"]
    # Half of the way from 1 s to the longest, and so on.
    assert legends.nth(3).inner_text().split() == ["p50", "1450", "p95", "1855", "p99", "1891"]
    poll_again(page)
    playwright.expect(legends.nth(1)).to_have_text("borrows 2.0")
    assert legends.nth(3).inner_text().split()[1] == "3.5"
    lines = page.locator(".line").evaluate_all("all => all.map(line => line.getAttribute('d'))")
    assert len(lines) == 11
    assert all("L" in line for line in lines if line is not None)


def test_only_five_minutes_are_kept(open_page: Open, one_busy: None) -> None:
    answers = [stats(100.0 + 60 * n, busy_pool(in_use=10 - n)) for n in range(8)]
    page = open_page(answers)
    live(page)
    for _ in answers[1:]:
        poll_again(page)
    playwright.expect(page.locator("svg").first).to_have_attribute(
        "aria-label", re.compile("in use 3 now, 8 at most")
    )


def test_percentiles_are_those_of_the_command(open_page: Open, one_busy: None) -> None:
    page = live(open_page())
    cases = [
        durations(),
        durations(0.00001),
        durations(0.003, 0.004, 0.3, 70.0),
        busy_pool()["held"],
        busy_pool()["wait"],
    ]
    for counted in cases:
        for part in (0.5, 0.95, 0.99, 1.0):
            computed = page.evaluate("args => percentile(...args)", [BOUNDS, counted, part])
            assert computed == pytest.approx(percentile(counted, part))


def test_what_is_marked_and_focused_stays_so(open_page: Open, one_busy: None) -> None:
    answers = [stats(100.0 + n, busy_pool(borrows=n), holders=[holder()]) for n in range(3)]
    page = live(open_page(answers))
    page.locator(".pool .scroll").focus()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#holders tbody'))")
    marked = page.evaluate("getSelection().toString()")
    assert "Thread-1" in marked
    poll_again(page)
    playwright.expect(page.locator(".pool tfoot")).to_contain_text("8/10")
    assert page.locator(".pool tfoot td").nth(4).inner_text() == "1"
    assert page.evaluate("getSelection().toString()") == marked
    assert page.evaluate("document.activeElement.className") == "scroll"


def test_plots_stay_with_their_alias(open_page: Open, one_busy: None) -> None:
    answers = [
        stats(100.0, busy_pool("b", in_use=2)),
        stats(102.0, busy_pool("a", in_use=1), busy_pool("b", in_use=2)),
        stats(104.0, busy_pool("b", in_use=2)),
    ]
    page = live(open_page(answers))

    def labels() -> list[str]:
        plots = "all => all.map(pool => pool.querySelector('svg').ariaLabel.split(';')[0])"
        shown: list[str] = page.locator(".pool").evaluate_all(plots)
        return shown

    of = "Connections, last 5 minutes: in use {0} now, {0} at most".format
    assert labels() == [of(2)]
    poll_again(page)
    assert labels() == [of(1), of(2)]
    assert page.locator(".pool").nth(1).locator(".line").first.get_attribute("d").count("L") == 2
    poll_again(page)
    assert labels() == [of(2)]
    assert page.locator(".pool h2").inner_text() == "b 1 process"


# Polling


def test_one_request_at_a_time(open_page: Open, one_busy: None) -> None:
    seen = stats(100.0, busy_pool())
    page = live(open_page([seen, None, seen]))
    page.clock.run_for(2000)
    page.clock.run_for(14_000)  # nobody answers
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("button", name="Pause").dblclick()
    assert page.evaluate("paused") is False
    assert len(page.asked) == 2
    page.asked[1].fulfill(body=seen, content_type="text/html")
    wait_until(lambda: not page.evaluate("busy"))
    poll_again(page)
    assert len(page.asked) == 3


def test_none_while_nobody_looks(open_page: Open, one_busy: None) -> None:
    page = live(open_page([stats(100.0, busy_pool())]))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.clock.run_for(20_000)
    assert len(page.asked) == 1
    with page.expect_request("**/pools/"):
        page.evaluate(
            "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
        )


def test_pause(open_page: Open, one_busy: None) -> None:
    page = live(open_page([stats(100.0, busy_pool())]))
    page.get_by_role("button", name="Pause").click()
    playwright.expect(page.locator("#state")).to_have_text("Paused")
    before = len(page.asked)
    page.clock.run_for(20_000)
    assert len(page.asked) == before
    page.get_by_role("button", name="Resume").click()
    live(page)
    assert len(page.asked) == before + 1


def test_errors_are_said_and_it_tries_on(open_page: Open, one_busy: None) -> None:
    seen = stats(100.0, busy_pool())
    page = live(open_page([seen, 503, 403, 302, "<p>Please log in</p>", seen]))
    state = page.locator("#state")
    poll_again(page)
    playwright.expect(state).to_have_text("The site answered with status 503; retrying")
    playwright.expect(page.locator(".pool")).to_have_count(1)
    poll_again(page, 4000)
    playwright.expect(state).to_have_text("You are no longer logged in as staff; retrying")
    poll_again(page, 8000)
    playwright.expect(state).to_have_text("You are no longer logged in as staff; retrying")
    poll_again(page, 16_000)
    playwright.expect(state).to_have_text("The site answered with another page; retrying")
    poll_again(page, 30_000)
    live(page)
    poll_again(page)  # as often as before
    assert len(page.complaints) == 6  # the page's, and the browser's own of the first two
    page.complaints.clear()
