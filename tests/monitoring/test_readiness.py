"""The view that tells whether a process can serve; with `asking.py`, which asks the servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection, connections
from django.test import AsyncClient, Client, RequestFactory
from django.urls import include, path

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring import asking as asking_module
from django_pooled_pg.monitoring import readiness
from django_pooled_pg.monitoring.asking import asking
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.connector import Connector
from django_pooled_pg.pooling.pool import Pool
from tests.conftest import MakeWrapper
from tests.support.processes import FORK, ROOT, run_script
from tests.support.proxy import Proxy
from tests.support.queries import fetch, hold, sessions
from tests.support.waiting import wait_until

pytestmark = pytest.mark.urls(__name__)
urlpatterns = [path("pools/", include("django_pooled_pg.monitoring.urls"))]

GOOD = {"ready": True, "paused": False, "exhausted": False, "error": None}
CUT_OFF = {**GOOD, "ready": False, "error": "OperationalError"}


@pytest.fixture(autouse=True)
def only_own_pools(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """As in a process that has just started, and whose middleware needs no database."""
    monkeypatch.setattr(registry, "_kept", {})
    settings.MIDDLEWARE = []
    yield
    wait_until(lambda: asking._thread is None, within=20)  # one may be asked still
    asking.forget()


def ready(query: str = "") -> tuple[int, Any]:
    """What is answered: the status, and what it says of the pools."""
    response = Client().get(f"/pools/ready{query}")
    body = response.json()
    assert body["ready"] is (response.status_code == 200)
    return response.status_code, body["pools"]


def pool_of(wrapper: DatabaseWrapper) -> Pool:
    assert wrapper.pool is not None
    return wrapper.pool


def fails(wrapper: DatabaseWrapper) -> None:
    with pytest.raises(OperationalError):
        wrapper.ensure_connection()


@pytest.fixture
def proxy(database: dict[str, Any]) -> Iterator[Proxy]:
    """What stands between these tests' pools and the server."""
    with Proxy(int(database["PORT"])) as proxy:
        yield proxy


# What a process knows


def test_a_process_without_pools_is_ready() -> None:
    assert ready() == (200, {})
    assert ready("?query") == (200, {})


def test_a_pool_that_works_is_ready(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    assert pool_of(wrapper)
    assert ready() == (200, {wrapper.alias: GOOD})  # nobody has borrowed yet
    fetch(wrapper, "SELECT 1")
    wrapper.close()
    before = pool_of(wrapper).statistics()
    assert ready() == (200, {wrapper.alias: GOOD})
    after = pool_of(wrapper).statistics()
    assert (after.borrows, after.connects) == (before.borrows, before.connects)


def test_an_exhausted_pool_is_ready_and_says_so(make_wrapper: MakeWrapper) -> None:
    holder = make_wrapper({"max_size": 1}, alias="readiness-full")
    hold(holder)
    assert ready() == (200, {"readiness-full": GOOD})  # all are in use, but nobody waits
    waiter = make_wrapper({"max_size": 1}, alias="readiness-full")
    waiter.inc_thread_sharing()
    with ThreadPoolExecutor() as executor:
        executor.submit(waiter.ensure_connection)
        wait_until(lambda: pool_of(holder).statistics().waiting)
        assert ready() == (200, {"readiness-full": {**GOOD, "exhausted": True}})
        assert ready("?query")[0] == 200  # beyond max_size, not through the queue
        assert pool_of(holder).statistics().size == 1
        holder.close()


def test_a_pool_that_cannot_connect_is_not_ready(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(HOST="127.0.0.1", PORT="1")
    fails(wrapper)
    assert ready() == (503, {wrapper.alias: CUT_OFF})


def test_one_that_has_other_connections_is_ready(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper({"max_size": 2}, HOST="127.0.0.1", PORT="1")
    fails(wrapper)
    other = make_wrapper()
    hold(other)
    connector = pool_of(wrapper)._connector
    connector._alive.add(other.connection)
    try:
        assert ready()[1][wrapper.alias] == GOOD
    finally:
        connector._alive.clear()


def test_a_server_that_is_back_is_found_though_nobody_borrows(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is not ready gets no requests, and would never borrow, and connect, again."""
    monkeypatch.setattr(asking_module, "FRESH_SECONDS", 0.0)
    gone = {"host": "127.0.0.1", "port": 1}
    wrapper = make_wrapper({"class": "null", "credentials": lambda: gone})
    fails(wrapper)
    assert ready() == (503, {wrapper.alias: CUT_OFF})
    gone.clear()
    connects = pool_of(wrapper).statistics().connects
    wait_until(lambda: ready() == (200, {wrapper.alias: GOOD}))
    assert pool_of(wrapper).statistics().connects == connects
    assert fetch(wrapper, "SELECT 1") == 1


def test_a_pause_is_no_reason_until_it_turns_borrowers_away(make_wrapper: MakeWrapper) -> None:
    short = make_wrapper({"timeout": 0.05})
    pool = pool_of(short)
    long = pool_of(make_wrapper({"timeout": 60}))
    for each in (pool, long):
        each.pause()
    try:
        wait_until(lambda: ready()[1][pool.alias] == {**GOOD, "ready": False, "paused": True})
        assert ready()[0] == 503
        assert ready()[1][long.alias] == {**GOOD, "paused": True}
        assert ready("?query")[1][long.alias] == {**GOOD, "paused": True}  # it isn't asked
    finally:
        for each in (pool, long):
            each.resume()
    assert ready() == (200, {pool.alias: GOOD, long.alias: GOOD})


def test_a_pool_that_was_closed_knows_nothing_any_more(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(HOST="127.0.0.1", PORT="1")
    fails(wrapper)
    wrapper.close_pool()
    assert ready() == (200, {wrapper.alias: GOOD})


def test_of_several_pools_of_an_alias_one_that_works_is_enough(make_wrapper: MakeWrapper) -> None:
    bad = make_wrapper(alias="moving", HOST="127.0.0.1", PORT="1")
    good = make_wrapper(alias="moving")
    fails(bad)
    assert ready() == (503, {"moving": CUT_OFF})
    hold(good)
    assert ready() == (200, {"moving": GOOD})
    fails(bad)  # and in whatever order
    assert ready() == (200, {"moving": GOOD})


# What its servers say


def test_query_asks_beyond_max_size_and_leaves_nothing(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper({"max_size": 1}, OPTIONS={"application_name": "asked for a sign"})
    pool_of(wrapper)
    assert ready("?query") == (200, {wrapper.alias: GOOD})
    assert pool_of(wrapper).statistics().connects == 0
    assert asking.last(pool_of(wrapper)) is not None
    outside = make_wrapper()
    wait_until(lambda: sessions(outside, "asked for a sign") == 0)


def test_query_finds_a_server_that_is_gone(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = make_wrapper(HOST="127.0.0.1", PORT="1", PASSWORD="sesame", USER="secret-user")
    pool_of(wrapper)
    assert ready() == (200, {wrapper.alias: GOOD})
    assert ready("?query") == (503, {wrapper.alias: CUT_OFF})
    (logged,) = [r.getMessage() for r in caplog.records if r.name == asking_module.__name__]
    assert logged.startswith(f"Pool {wrapper.alias!r}: its server gives no answer: connection")
    assert "sesame" not in logged


def test_query_takes_two_seconds_at_most(make_wrapper: MakeWrapper, proxy: Proxy) -> None:
    proxy.freeze()
    wrappers = [make_wrapper(HOST="127.0.0.1", PORT=str(proxy.port)) for _ in range(3)]
    for wrapper in wrappers:
        pool_of(wrapper)
    began = monotonic()
    status, pools = ready("?query")
    assert monotonic() - began < asking_module.PATIENCE_SECONDS + 1
    assert status == 503
    # The connect of the first one gives up as late.
    assert {pool["error"] for pool in pools.values()} <= {"TimeoutError", "ConnectionTimeout"}


def test_servers_are_asked_one_at_a_time_and_once_a_second(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most, asked = 0, 0, 0

    def ask_server(self: Any, within: float) -> None:
        nonlocal now, most, asked
        now += 1
        most, asked = max(most, now), asked + 1
        real(self, within)
        now -= 1

    real = Connector.ask_server
    monkeypatch.setattr(Connector, "ask_server", ask_server)
    monkeypatch.setattr(asking_module, "FRESH_SECONDS", 60.0)
    for _ in range(4):
        pool_of(make_wrapper())
    with ThreadPoolExecutor(8) as executor:
        assert {status for status, _ in executor.map(ready, ["?query"] * 8)} == {200}
    assert (most, asked) == (1, 4)
    monkeypatch.setattr(asking_module, "FRESH_SECONDS", 0.0)
    ready("?query")
    assert asked == 8


def test_where_no_thread_can_be_started_it_is_not_ready(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "FRESH_SECONDS", 0.0)
    wrapper = make_wrapper()
    pool_of(wrapper)

    def start(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", start)
        assert ready("?query") == (503, {wrapper.alias: {**CUT_OFF, "error": "RuntimeError"}})
    assert ready("?query") == (200, {wrapper.alias: GOOD})


def test_an_interrupt_before_the_thread_runs_does_no_lasting_harm(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper()
    pool_of(wrapper)

    def start(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", start)
        with pytest.raises(KeyboardInterrupt):
            readiness.readiness(query=True)
    assert ready("?query") == (200, {wrapper.alias: GOOD})


@pytest.mark.parametrize("error", [SystemExit("sesame"), ValueError("sesame")])
def test_what_the_site_raises_is_told_by_its_type(
    make_wrapper: MakeWrapper,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    def credentials() -> Any:
        raise error

    wrapper = make_wrapper({"credentials": credentials})
    pool_of(wrapper)
    status, pools = ready("?query")
    assert status == 503
    assert pools[wrapper.alias]["error"] in ("OperationalError", "SystemExit")
    assert "sesame" not in json.dumps(pools) + "".join(
        record.getMessage() for record in caplog.records if record.levelname != "DEBUG"
    )
    assert ready("?query")[0] == 503  # whoever asks is still there


def test_only_some_databases(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = make_wrapper(HOST="127.0.0.1", PORT="1"), make_wrapper()
    for wrapper in (bad, good):
        monkeypatch.setitem(connections.settings, wrapper.alias, wrapper.settings_dict)
    fails(bad)
    hold(good)
    assert ready()[0] == 503
    assert ready(f"?database={good.alias}") == (200, {good.alias: GOOD})
    assert ready(f"?database={good.alias}&database={bad.alias}")[0] == 503
    response = Client().get("/pools/ready?database=defualt")
    assert (response.status_code, response.json()) == (404, {"error": "there is no such database"})


def test_a_forked_child_knows_nothing_of_its_parents_answers(database: dict[str, Any]) -> None:
    script = f"""
{FORK}
from django_pooled_pg.monitoring.asking import asking
from django_pooled_pg.monitoring.readiness import readiness
assert readiness(query=True) == {{}}
backend_pid()
assert readiness(query=True)["default"]["ready"]
pool = connection.pool
def child():
    assert asking.last(pool) is None
    assert readiness(query=True)["default"]["ready"]
    assert asking.last(pool) is not None
assert fork(child) == 0
assert asking.last(pool) is not None
"""
    run_script(script, {"default": {**database, "ENGINE": "django_pooled_pg"}})


# The request


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_get_and_head_only(method: str) -> None:
    response = getattr(Client(), method)("/pools/ready")
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


def test_head_has_no_body() -> None:
    # Not by Django's client, which takes it away.
    response = readiness.ready(RequestFactory().head("/"))
    assert (response.status_code, response.content) == (200, b"")
    whole = len(Client().get("/pools/ready").content)
    assert response["Content-Length"] == f"{whole}"


@pytest.mark.parametrize("query", ["", "?query", "?database=no"])
def test_kept_by_nobody(query: str) -> None:
    response = Client().get(f"/pools/ready{query}")
    assert set(response["Cache-Control"].split(", ")) == {"private", "no-store"}
    assert response["Content-Type"] == "application/json"


def test_the_sites_login_middleware_leaves_it_alone(settings: Any) -> None:
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert ready() == (200, {})


def test_no_transaction_is_begun_for_it(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request would wait for a connection of a pool that is exhausted."""
    wrapper = make_wrapper()
    for settings in (connection.settings_dict, wrapper.settings_dict):
        monkeypatch.setitem(settings, "ATOMIC_REQUESTS", True)
    assert ready()[0] == 200
    assert [pool.statistics().borrows for pool in registry.pools()] == []


@pytest.mark.parametrize("query", ["", "?query"])
def test_under_asgi(make_wrapper: MakeWrapper, query: str) -> None:
    wrapper = make_wrapper()
    pool_of(wrapper)

    async def ask() -> Any:
        return await AsyncClient().get(f"/pools/ready{query}")

    response = async_to_sync(ask)()
    assert (response.status_code, response.json()["pools"]) == (200, {wrapper.alias: GOOD})


def test_the_probes_of_the_page_are_answered() -> None:
    page = (ROOT / "docs/readiness.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    paths = re.findall(r"path: (\S+)", block)
    assert len(paths) == 2
    assert [Client().get(path).status_code for path in paths] == [200, 200]
    (prefix,) = re.findall(r'path\("(.*?)", include\("django_pooled_pg.monitoring.urls"\)', page)
    assert all(path.startswith(f"/{prefix}ready") for path in paths)
