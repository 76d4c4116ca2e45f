"""A server that doesn't answer at all: nobody waits for it longer than they asked to.

Tests what `opening.py` says about it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import OperationalError

from django_pooled_pg.pooling.errors import PoolExhausted

if TYPE_CHECKING:
    from tests.faults.conftest import MakeSite

pytestmark = pytest.mark.faults


@pytest.fixture(params=["swallows packets", "says nothing"])
def silent(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port of 127.0.0.1 where nobody answers."""
    with ExitStack() as stack:
        swallows = request.param == "swallows packets"
        listener = stack.enter_context(
            socket.create_server(("127.0.0.1", 0), backlog=0 if swallows else 128)
        )
        if swallows:
            # The kernel completes no more connections than fit into the queue: it drops their packets.
            for _ in range(4):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def failed(make_site: MakeSite, pool: dict[str, Any], **settings: Any) -> tuple[Any, float]:
    answer = make_site(pool, **settings).request()
    assert isinstance(answer.error, OperationalError)
    return answer.error, answer.seconds


def test_it_is_named_with_how_long_it_was_waited_for(make_site: MakeSite, silent: int) -> None:
    error, seconds = failed(make_site, {"timeout": 4}, PORT=str(silent))
    assert not isinstance(error, PoolExhausted)
    assert f"no answer from 127.0.0.1, port {silent}, within 3 s (connect_timeout)" in str(error)
    assert isinstance(error.__cause__, psycopg.errors.ConnectionTimeout)
    assert 2.5 < seconds < 4


def test_several_hosts_share_the_time(make_site: MakeSite, silent: int) -> None:
    where = {"HOST": "127.0.0.1,localhost", "PORT": f"{silent},{silent}"}
    error, seconds = failed(make_site, {"timeout": 6}, **where)
    assert "no answer from 127.0.0.1,localhost" in str(error)
    assert "within 2 s each" in str(error)
    assert "Multiple connection attempts failed" in str(error)
    assert seconds < 6.5


def test_what_options_say_of_it_counts(make_site: MakeSite, silent: int) -> None:
    options = {"connect_timeout": "1"}  # psycopg makes 2 of it
    error, seconds = failed(make_site, {"timeout": 10}, PORT=str(silent), OPTIONS=options)
    assert "within 2 s (connect_timeout)" in str(error)
    assert seconds < 4


def test_what_the_environment_says_of_it_counts(
    make_site: MakeSite, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    error, _ = failed(make_site, {"timeout": 10}, PORT=str(silent))
    assert "within 2 s (connect_timeout)" in str(error)


def test_a_service_may_be_silent_too(
    make_site: MakeSite, silent: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """psycopg doesn't look for its time limit there."""
    file = tmp_path / "services"
    file.write_text(f"[books]\nhost=127.0.0.1\nport={silent}\nuser=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    where = {"HOST": "", "PORT": "", "NAME": "", "USER": "", "OPTIONS": {"service": "books"}}
    error, seconds = failed(make_site, {"timeout": 3}, **where)
    assert "no answer from service books within 2 s (connect_timeout)" in str(error)
    assert seconds < 3


def test_those_of_a_null_pool_learn_it_too(make_site: MakeSite, silent: int) -> None:
    started = time.monotonic()
    error, _ = failed(make_site, {"class": "null", "timeout": 3}, PORT=str(silent))
    assert isinstance(error, PoolExhausted)
    assert f"no answer from 127.0.0.1, port {silent}" in str(error)
    assert time.monotonic() - started < 4
