"""Whoever can't get a connection learns why from the server itself, and at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import OperationalError

from django_pooled_pg.pooling.errors import PoolExhausted
from testproject.embedded import Cluster
from testproject.ports import free_port, is_free
from tests.support.queries import hold
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.faults.conftest import Answer, MakeSite, Site

pytestmark = pytest.mark.faults

# Seconds. The sites' timeout is 10.
AT_ONCE = 1.5
RECOVERED = 2.0
OUTAGE = 8.0

NOBODY_LISTENS = str(free_port())
DOWN = "onnection refused"


def refused(answers: list[Answer], why: str) -> None:
    """Assert that all got the server's own error, and at once."""
    for answer in answers:
        assert isinstance(answer.error, OperationalError)
        assert not isinstance(answer.error, PoolExhausted)
        assert isinstance(answer.error.__cause__, psycopg.OperationalError)
        assert why in str(answer.error)
        assert answer.seconds < AT_ONCE


@contextmanager
def stopped(server: Cluster) -> Iterator[None]:
    server.stop()
    # The server lets go of its port a little after it is done.
    wait_until(lambda: is_free(server.port))
    yield
    server.start()


def recovered(site: Site) -> None:
    """Assert that requests are served again soon; an attempt from before may still fail one."""
    started = time.monotonic()
    wait_until(lambda: site.request().error is None, within=RECOVERED)
    assert time.monotonic() - started < RECOVERED


@contextmanager
def held_by_another_thread(site: Site) -> Iterator[None]:
    """Meanwhile a thread has borrowed a connection, and does nothing with it."""
    borrowed, done = threading.Event(), threading.Event()

    def work() -> None:
        wrapper = site.wrapper()
        hold(wrapper)
        borrowed.set()
        done.wait(60)
        wrapper.close()

    thread = threading.Thread(target=work, name="holder")
    thread.start()
    try:
        assert borrowed.wait(10)
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"PORT": NOBODY_LISTENS}, DOWN),
        (
            {"USER": "password", "PASSWORD": "not-the-password"},
            'password authentication failed for user "password"',
        ),
        ({"USER": "password"}, "no password supplied"),
        ({"NAME": "nowhere"}, 'database "nowhere" does not exist'),
        ({"USER": "somebody"}, 'no pg_hba.conf entry for host "127.0.0.1", user "somebody"'),
        ({"USER": "tls_only"}, 'user "tls_only", database "postgres", no encryption'),
        ({"OPTIONS": {"sslmode": "require"}}, "server does not support SSL"),
        ({"HOST": "no-such-host.invalid"}, "no-such-host.invalid"),
        ({"HOST": "/no/such/folder"}, "No such file or directory"),
    ],
    ids=[
        "down",
        "wrong password",
        "no password",
        "unknown database",
        "unknown user",
        "no tls",
        "no tls here",
        "bad host",
        "bad folder",
    ],
)
def test_the_servers_own_error(make_site: MakeSite, settings: dict[str, Any], why: str) -> None:
    site = make_site(**settings)
    refused([site.request()], why)
    refused([site.request()], why)
    refused(site.at_once(8), why)
    secret = settings.get("PASSWORD")
    assert not secret or secret not in str(site.request().error)
    assert site.pool.statistics().waiting == 0
    assert site.pool.statistics().exhausted == 0


def test_the_first_requests_come_all_at_once(make_site: MakeSite, server: Cluster) -> None:
    site = make_site({"max_size": 4})
    with stopped(server):
        refused(site.at_once(8), DOWN)


def test_the_same_settings_work_when_they_are_right(make_site: MakeSite) -> None:
    assert make_site(USER="password", PASSWORD="right-password").request().pid


@pytest.mark.parametrize("max_size", [2, 0])
def test_a_pool_that_keeps_nothing(make_site: MakeSite, server: Cluster, max_size: int) -> None:
    site = make_site({"class": "null", "max_size": max_size})
    assert site.request().pid
    with stopped(server):
        refused([site.request()], DOWN)
        refused(site.at_once(8), DOWN)
    assert site.request().pid


# A pool that has worked


def test_down_with_idle_connections(make_site: MakeSite, server: Cluster) -> None:
    site = make_site({"max_size": 4})
    site.idle(4)
    with stopped(server):
        refused([site.request()], DOWN)
        refused(site.at_once(8), DOWN)


def test_down_with_idle_connections_and_many_at_once(make_site: MakeSite, server: Cluster) -> None:
    site = make_site({"max_size": 4})
    site.idle(4)
    with stopped(server):
        refused(site.at_once(8), DOWN)


@pytest.mark.parametrize("idle", [0, 3])
def test_a_dead_connection_that_a_thread_holds_is_no_hope(
    make_site: MakeSite, server: Cluster, idle: int
) -> None:
    site = make_site({"max_size": 4})
    with held_by_another_thread(site):
        site.idle(idle)
        with stopped(server):
            refused([site.request()], DOWN)
            refused(site.at_once(8), DOWN)
    wait_until(lambda: site.pool.statistics().in_use == 0)
    recovered(site)


def test_one_slot_held_and_dead(make_site: MakeSite, server: Cluster) -> None:
    """Waiting for the slot is right, whatever became of the server; and the slot works again."""
    site = make_site({"max_size": 1})
    with ThreadPoolExecutor(1) as executor, held_by_another_thread(site):
        with stopped(server):
            waiting = executor.submit(site.request)
            wait_until(lambda: site.pool.statistics().waiting == 1)
        assert not waiting.done()
    assert waiting.result().pid


# Too many clients


@pytest.fixture
def three_clients(server: Cluster) -> Iterator[Cluster]:
    """The server, with room for three."""
    server.settings |= {"max_connections": "3", "superuser_reserved_connections": "0"}
    server.restart()
    return server


TOO_MANY = "sorry, too many clients already"


def test_too_many_clients_with_others_alive(make_site: MakeSite, three_clients: Cluster) -> None:
    site = make_site({"max_size": 4, "timeout": 1})
    with (
        psycopg.connect(three_clients.dsn),
        held_by_another_thread(site),
        held_by_another_thread(site),
    ):
        for answer in [site.request(), *site.at_once(4)]:
            assert isinstance(answer.error, PoolExhausted)
            assert TOO_MANY in str(answer.error)
            assert "holder" in str(answer.error)
            assert 1 <= answer.seconds < 1.5


def test_too_many_clients_and_one_comes_back(make_site: MakeSite, three_clients: Cluster) -> None:
    site = make_site({"max_size": 4})
    with psycopg.connect(three_clients.dsn), held_by_another_thread(site):
        wrapper = site.wrapper()
        pid = hold(wrapper)
        returning = threading.Timer(0.5, wrapper.close)
        wrapper.inc_thread_sharing()
        returning.start()
        answers = site.at_once(4)
        returning.join()
    assert {answer.pid for answer in answers} == {pid}
    assert max(answer.seconds for answer in answers) < 0.5 + AT_ONCE


def test_too_many_clients_with_none_of_our_own(make_site: MakeSite, three_clients: Cluster) -> None:
    site = make_site({"max_size": 4})
    with (
        psycopg.connect(three_clients.dsn),
        psycopg.connect(three_clients.dsn),
        psycopg.connect(three_clients.dsn),
    ):
        refused([site.request()], TOO_MANY)
        refused(site.at_once(4), TOO_MANY)


# Recovery


def test_recovery_after_an_outage(make_site: MakeSite, server: Cluster) -> None:
    """Long enough that doubling pauses would have grown to many seconds."""
    sites = [make_site({"max_size": 4}), make_site({"max_size": 4})]
    sites[0].idle(4)
    with stopped(server):
        end = time.monotonic() + OUTAGE
        while time.monotonic() < end:
            refused([site.request() for site in sites], DOWN)
    returned = time.monotonic()
    for site in sites:
        recovered(site)
    assert time.monotonic() - returned < RECOVERED
    for site in sites:
        for answer in site.at_once(8):
            assert answer.error is None
            assert answer.seconds < RECOVERED
