"""CancelAbandonedMiddleware stops the database work of requests whose clients have gone.

Also the view decorators in `abandoned.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from django_pooled_pg import (
    DeadlineExceeded,
    RequestAbandoned,
    cancel_if_abandoned,
    deadline,
    finish_if_abandoned,
)
from django_pooled_pg.middleware import CancelAbandonedMiddleware
from django_pooled_pg.middleware import abandoned as module
from django_pooled_pg.pooling.work import watcher
from django_pooled_pg.pooling.work.work import context, current
from tests.conftest import MakeWrapper
from tests.support.queries import connect, hold
from tests.support.waiting import wait_until

SLEEP = "SELECT pg_sleep(20)"
site = SimpleNamespace()  # .wrapper, and what .seen of it


def run(sql: str = SLEEP) -> None:
    with site.wrapper.cursor() as cursor:
        cursor.execute(sql)


def slow(request: HttpRequest) -> HttpResponse:
    try:
        run()
    except Exception as ex:
        site.seen.append(ex)
        raise
    return HttpResponse("slept")


async def slow_async(request: HttpRequest) -> HttpResponse:
    await sync_to_async(slow, thread_sensitive=False)(request)
    return HttpResponse("slept")


class Slow(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return slow(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        return slow(request)


def briefly(request: HttpRequest) -> HttpResponse:
    """Go on when the client has gone, for which nothing is stopped."""
    run("SELECT pg_sleep(0.3)")
    return HttpResponse("slept")


def goes_on(request: HttpRequest) -> HttpResponse:
    for _ in range(2):
        try:
            run()
        except OperationalError as ex:
            site.seen.append(ex)
    return HttpResponse("went on")


def limited(request: HttpRequest) -> HttpResponse:
    with deadline(0.1):
        run()
    return HttpResponse("slept")


def fine(request: HttpRequest) -> HttpResponse:
    site.seen.append(current())
    return HttpResponse("fine")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        site.seen.append(current())
        run("SELECT 1")
        yield "line"

    return StreamingHttpResponse(lines())


def in_middleware(request: HttpRequest) -> HttpResponse:
    raise AssertionError("the middleware comes first")


urlpatterns = [
    path("slow", slow),
    path("slow_async", slow_async),
    path("slow/canceled", cancel_if_abandoned(slow)),
    path("slow_async/canceled", cancel_if_abandoned(slow_async)),
    path("class/canceled", method_decorator(cancel_if_abandoned, name="dispatch")(Slow).as_view()),
    path("class", Slow.as_view()),
    path("finished", finish_if_abandoned(briefly)),
    path("briefly", briefly),
    path("goes_on", goes_on),
    path("limited", limited),
    path("fine", fine),
    path("stream", stream),
    path("in_middleware", in_middleware),
]


def querying_middleware(get_response: Callable[[HttpRequest], Any]) -> Any:
    def middleware(request: HttpRequest) -> Any:
        return slow(request) if request.path == "/in_middleware" else get_response(request)

    return middleware


@pytest.fixture(autouse=True)
def site_in_use(make_wrapper: MakeWrapper) -> Iterator[None]:
    site.wrapper = make_wrapper(pool={"max_size": 1, "timeout": 20}, alias="site")
    site.seen = []
    site.wrapper.inc_thread_sharing()
    middleware = ["django_pooled_pg.middleware.CancelAbandonedMiddleware"]
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=[*middleware, f"{__name__}.querying_middleware"]
    ):
        yield


@pytest.fixture
def client(caplog: pytest.LogCaptureFixture) -> Client:
    caplog.set_level(logging.INFO, "django_pooled_pg.middleware")
    return Client(raise_request_exception=False)


@contextmanager
def leaving_client(database: dict[str, Any], *, condition: str = "true") -> Iterator[Any]:
    """Yield a server's socket, whose client leaves as soon as a statement runs that sleeps."""
    ours, theirs = socket.socketpair()
    done = threading.Event()

    def leave() -> None:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
        sql += f" AND state = 'active' AND {condition}"
        with connect(database) as observer:
            wait_until(lambda: done.is_set() or observer.execute(sql).fetchone() != (0,), 20)
        theirs.close()

    with closing(ours), closing(theirs), ThreadPoolExecutor(1) as executor:
        leaving = executor.submit(leave)
        try:
            yield ours
        finally:
            done.set()
        leaving.result()


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What was logged at INFO or above, but by asyncio."""
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.levelno >= logging.INFO]


def assert_canceled(response: Any, caplog: pytest.LogCaptureFixture, url: str) -> None:
    assert response.status_code == 499
    assert response.content == b""
    assert isinstance(site.seen[0], RequestAbandoned)
    assert isinstance(site.seen[0], OperationalError)
    ((level, said),) = lines_of(caplog)
    assert level == "INFO"
    assert f"{url}: its client left after" in said
    assert not any(record.exc_info for record in caplog.records)
    assert context.get() is None
    assert site.wrapper.pool.statistics().in_use <= 1
    with site.wrapper.cursor() as cursor:  # it is as good as before
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("url", ["/slow", "/slow_async", "/class", "/in_middleware"])
@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_what_is_done_for_a_client_that_has_gone_is_canceled(
    client: Client,
    database: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    url: str,
    method: str,
) -> None:
    if url == "/class" and method == "options":
        pytest.skip("Django's own views answer OPTIONS by themselves")
    with leaving_client(database) as gone:
        response = getattr(client, method)(url, **{"gunicorn.socket": gone})
    assert_canceled(response, caplog, url)


def test_got_request_exception_is_sent_as_for_any_error(
    client: Client, database: dict[str, Any]
) -> None:
    """Django's handler of exceptions sends it before anybody is asked, but only for middleware's."""
    sent: list[Any] = []

    def receiver(**kwargs: Any) -> None:
        sent.append(kwargs)

    got_request_exception.connect(receiver)
    try:
        with leaving_client(database) as gone:
            client.get("/slow", **{"gunicorn.socket": gone})
        assert sent == []  # the middleware has answered
        with leaving_client(database) as gone:
            client.get("/in_middleware", **{"gunicorn.socket": gone})
        assert len(sent) == 1
    finally:
        got_request_exception.disconnect(receiver)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_what_may_change_something_is_finished(
    client: Client, database: dict[str, Any], caplog: pytest.LogCaptureFixture, method: str
) -> None:
    with leaving_client(database) as gone:
        response = getattr(client, method)("/briefly", **{"gunicorn.socket": gone})
    assert response.content == b"slept"
    assert lines_of(caplog) == []


@pytest.mark.parametrize("url", ["/slow/canceled", "/slow_async/canceled", "/class/canceled"])
def test_a_view_says_that_it_can_be_canceled(
    client: Client, database: dict[str, Any], caplog: pytest.LogCaptureFixture, url: str
) -> None:
    with leaving_client(database) as gone:
        response = client.post(url, **{"gunicorn.socket": gone})
    assert_canceled(response, caplog, url)


def test_a_view_says_that_it_is_to_be_finished(
    client: Client, database: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with leaving_client(database) as gone:
        response = client.get("/finished", **{"gunicorn.socket": gone})
    assert response.content == b"slept"
    assert lines_of(caplog) == []


def test_decorators_leave_the_view_itself_as_it_is() -> None:
    marked = cancel_if_abandoned(slow_async)
    assert inspect.iscoroutinefunction(marked)
    assert marked.__name__ == "slow_async"
    assert not hasattr(slow_async, "django_pooled_pg_cancel_abandoned")
    assert finish_if_abandoned(marked).django_pooled_pg_cancel_abandoned is False  # type: ignore[attr-defined]


@pytest.mark.parametrize("decorator", [cancel_if_abandoned, finish_if_abandoned])
@pytest.mark.parametrize("wrong", [Slow, "slow", None, 5])
def test_wrong_uses_of_decorators_are_refused_in_words(decorator: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"write @{decorator.__name__} above a function, or"):
        decorator(wrong)


def test_a_client_that_is_there_gets_its_answer(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.send(b"GET /next HTTP/1.1\r\n\r\n")
        assert client.get("/briefly", **{"gunicorn.socket": ours}).content == b"slept"
    assert lines_of(caplog) == []


def test_a_wait_for_a_connection_ends(
    client: Client,
    database: dict[str, Any],
    make_wrapper: MakeWrapper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    holder = make_wrapper(pool={"max_size": 1, "timeout": 20}, alias="site")
    hold(holder)
    ours, theirs = socket.socketpair()
    with closing(ours), ThreadPoolExecutor(1) as executor:
        asking = executor.submit(client.get, "/slow", **{"gunicorn.socket": ours})
        wait_until(lambda: holder.pool.statistics().waiting == 1)  # type: ignore[union-attr]
        theirs.close()
        response = asking.result(10)
    holder.close()
    assert_canceled(response, caplog, "/slow")
    assert "it no longer waits for a connection" in str(site.seen[0])


def test_a_view_that_goes_on_after_errors_runs_no_further_statement(
    client: Client, database: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with leaving_client(database) as gone:
        response = client.get("/goes_on", **{"gunicorn.socket": gone})
    assert response.content == b"went on"
    assert [type(error) for error in site.seen] == [RequestAbandoned] * 2
    assert "no further statement is run" in str(site.seen[1])
    assert len(lines_of(caplog)) == 1


def test_the_clean_up_in_a_transaction_is_done(
    client: Client, database: dict[str, Any], make_wrapper: MakeWrapper
) -> None:
    with leaving_client(database) as gone:
        client.get("/slow", **{"gunicorn.socket": gone})
    assert not site.wrapper.needs_rollback
    site.wrapper.close()
    assert site.wrapper.pool.statistics().dead == 0


# Under ASGI Django cancels the view


def leave_async(url: str, database: dict[str, Any], method: str = "get") -> None:
    """Cancel a request when its statement runs, as Django does when its client has gone."""

    async def leave() -> None:
        client = AsyncClient(raise_request_exception=False)
        request = asyncio.create_task(getattr(client, method)(url))
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = %s"
        with connect(database) as observer:
            await asyncio.to_thread(
                wait_until, lambda: observer.execute(sql, [SLEEP]).fetchone() == (1,), 20
            )
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await asyncio.to_thread(
                wait_until, lambda: observer.execute(sql, [SLEEP]).fetchone() == (0,), 10
            )
        # Its thread is to be done before the event loop is.
        await asyncio.to_thread(wait_until, lambda: site.seen)

    asyncio.run(leave())


@pytest.fixture
def async_stack() -> Iterator[None]:
    with override_settings(
        MIDDLEWARE=["django_pooled_pg.middleware.CancelAbandonedMiddleware"], ALLOWED_HOSTS=["*"]
    ):
        yield


@pytest.mark.usefixtures("async_stack")
@pytest.mark.parametrize(
    ("url", "method"), [("/slow", "get"), ("/slow_async", "get"), ("/slow/canceled", "post")]
)
def test_in_an_async_stack(
    database: dict[str, Any], caplog: pytest.LogCaptureFixture, url: str, method: str
) -> None:
    caplog.set_level(logging.INFO, "django_pooled_pg.middleware")
    leave_async(url, database, method)
    assert [type(error) for error in site.seen] == [RequestAbandoned]
    (record,) = [r for r in caplog.records if r.name == "django_pooled_pg.middleware"]
    assert record.levelname == "INFO"
    assert f"{url}: its client left" in record.getMessage()


@pytest.mark.usefixtures("async_stack")
def test_in_an_async_stack_what_may_change_something_is_finished(database: dict[str, Any]) -> None:
    async def leave() -> None:
        request = asyncio.create_task(AsyncClient().post("/briefly"))
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE %s"
        with connect(database) as observer:

            def asleep(count: int) -> bool:
                return observer.execute(sql, ["SELECT pg_sleep%"]).fetchone() == (count,)

            await asyncio.to_thread(wait_until, lambda: asleep(1), 20)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await asyncio.to_thread(wait_until, lambda: asleep(0), 10)

    asyncio.run(leave())


@pytest.mark.usefixtures("async_stack")
def test_an_answer_of_an_async_stack() -> None:
    response = asyncio.run(AsyncClient().get("/fine"))
    assert response.content == b"fine"
    assert site.seen[0] is not None
    assert context.get() is None


# Deadlines


@override_settings(POOLED_PG_REQUEST_DEADLINE=0.2)
@pytest.mark.parametrize("url", ["/slow", "/slow_async", "/in_middleware"])
def test_after_the_deadline_of_requests_they_are_answered_503(
    client: Client, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    response = client.post(url)
    assert response.status_code == 503
    assert b"This took too long" in response.content
    assert isinstance(site.seen[0], DeadlineExceeded)
    (record,) = [r for r in caplog.records if r.name == "django_pooled_pg.middleware"]
    assert record.levelname == "ERROR"
    assert f"503 for {url}: Pool 'site': the deadline of 0.2 s has passed" in record.getMessage()


@override_settings(POOLED_PG_REQUEST_DEADLINE=0.2)
@pytest.mark.usefixtures("async_stack")
@pytest.mark.parametrize("url", ["/slow", "/slow_async"])
def test_the_deadline_of_requests_in_an_async_stack(url: str) -> None:
    response = asyncio.run(AsyncClient(raise_request_exception=False).get(url))
    assert response.status_code == 503


@override_settings(POOLED_PG_REQUEST_DEADLINE=20)
def test_what_a_view_does_about_deadlines_of_its_own_is_left_to_the_site(client: Client) -> None:
    response = client.get("/limited")
    assert response.status_code == 500


def test_without_that_setting_requests_have_no_deadline(client: Client) -> None:
    assert client.get("/limited").status_code == 500
    assert client.get("/briefly").status_code == 200


@pytest.mark.parametrize("setting", ["POOLED_PG_ABANDONED_AFTER", "POOLED_PG_REQUEST_DEADLINE"])
@pytest.mark.parametrize("value", [-1, "1", True, float("nan"), float("inf"), 1e12])
def test_impossible_settings_are_refused_in_words(setting: str, value: Any) -> None:
    said = f"{setting} needs a number of seconds"
    with override_settings(**{setting: value}), pytest.raises(ImproperlyConfigured, match=said):
        CancelAbandonedMiddleware(fine)


def test_possible_settings() -> None:
    assert module.configured() == (0.1, float("inf"))
    with override_settings(POOLED_PG_ABANDONED_AFTER=0, POOLED_PG_REQUEST_DEADLINE=30):
        assert module.configured() == (0.0, 30.0)


@override_settings(POOLED_PG_ABANDONED_AFTER=30)
def test_before_that_setting_nobody_looks(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with closing(ours):
        assert client.get("/briefly", **{"gunicorn.socket": ours}).content == b"slept"
    assert lines_of(caplog) == []


# What is left behind


def test_threads_that_serve_many_begin_each_request_anew(
    client: Client, database: dict[str, Any]
) -> None:
    before = set(watcher._watched)

    def serve() -> None:
        with leaving_client(database) as gone:
            assert client.get("/slow", **{"gunicorn.socket": gone}).status_code == 499
        assert context.get() is None
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            assert client.get("/briefly", **{"gunicorn.socket": ours}).status_code == 200
        assert context.get() is None
        site.wrapper.close()

    with ThreadPoolExecutor(1) as executor:
        for _ in range(3):
            executor.submit(serve).result(30)
    wait_until(lambda: watcher._watched <= before)


def test_the_body_of_a_streaming_response_belongs_to_no_work(client: Client) -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        response = client.get("/stream", **{"gunicorn.socket": ours})
        theirs.close()
        assert b"".join(response.streaming_content) == b"line"  # type: ignore[attr-defined]
    assert site.seen == [None]


def test_the_test_client_has_nobody_who_could_leave(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/fine").content == b"fine"
    assert site.seen == [None]
    assert lines_of(caplog) == []


def test_that_nobody_is_told_of_clients_that_leave_is_said_once(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_said", set())
    for _ in range(2):
        client.get("/fine", SERVER_SOFTWARE="mod_wsgi/5.0\n")
    ((level, said),) = lines_of(caplog)
    assert level == "WARNING"
    assert "isn't told when clients leave" in said
    assert said.endswith(r"under mod_wsgi/5.0\n, so it cancels nothing for them")


def test_that_sync_only_middleware_keeps_the_news_away_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_said", set())
    for _ in range(2):
        asyncio.run(AsyncClient().get("/fine"))
    (said,) = [r.getMessage() for r in caplog.records if r.name == "django_pooled_pg.middleware"]
    assert said.endswith(
        "under ASGI, because of sync-only middleware after it in MIDDLEWARE, so it cancels nothing "
        "for them"
    )


def test_a_number_that_was_given_to_another_socket_is_not_the_clients() -> None:
    """A server closes the socket when the request is over, maybe while somebody looks."""
    looks: list[bool] = []

    def look() -> bool:
        watched.client = None  # the request ends; its socket's number is another one's from here on
        looks.append(True)
        return True

    request = HttpRequest()
    request.method = "GET"
    watched = module._Watched(request, look, 0.0, float("inf"))
    assert not watched._has_left()
    assert looks == [True]
    assert not watched._has_left()
    assert looks == [True]


def test_an_interrupt_as_it_begins_leaves_nothing_to_be_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def enter(work: Any) -> None:
        watcher.enter(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "enter", enter)
    middleware = CancelAbandonedMiddleware(lambda request: HttpResponse())
    request = HttpRequest()
    request.method = "GET"
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        request.environ = {"gunicorn.socket": ours}  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            middleware(request)
    assert current() is None
    assert all(work.has_ended for work in watcher._watched)
