"""Threads, async code and streams hold nothing while they do something else."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections, transaction
from django.test import RequestFactory, override_settings

from testproject.library.models import Author, Book
from tests.return_at.common import (
    MakeKnown,
    held,
)
from tests.support.queries import backend_pid


@pytest.fixture
def alias(make_known: MakeKnown) -> str:
    """An alias for which each thread gets a wrapper, with four connections for all of them."""
    return make_known(max_size=4, timeout=30).alias


def test_two_hundred_idle_threads_hold_nothing(alias: str) -> None:
    everybody = threading.Barrier(201)
    done = threading.Event()

    def work() -> int:
        pid = backend_pid(connections[alias])
        everybody.wait(60)
        done.wait(60)
        return pid

    with ThreadPoolExecutor(200) as executor:
        pids = [executor.submit(work) for _ in range(200)]
        try:
            everybody.wait(60)
            in_use = held(connections[alias])  # type: ignore[arg-type]
        finally:
            done.set()
        assert in_use == 0
        assert len({pid.result() for pid in pids}) <= 4


def test_sync_to_async_in_any_thread_leaves_nothing_lent(alias: str) -> None:
    def work() -> int:
        with transaction.atomic(using=alias):
            return backend_pid(connections[alias])

    async def main() -> set[int]:
        run = sync_to_async(work, thread_sensitive=False)
        pids = set(await asyncio.gather(*[run() for _ in range(20)]))
        # While the loop's threads are there: they don't give back by ending.
        assert held(connections[alias]) == 0  # type: ignore[arg-type]
        return pids

    wrapper = connections[alias]  # not to be looked up by each coroutine
    assert wrapper is connections[alias]
    assert len(asyncio.run(main())) <= 4


class RouterTo:
    """Sends all queries to one alias."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.alias

    db_for_write = db_for_read

    def allow_relation(self, a: Any, b: Any, **hints: Any) -> bool:
        return True


@pytest.mark.django_db  # for the tables
def test_a_stream_holds_nothing_before_and_after_its_query(
    make_known: MakeKnown,
) -> None:
    wrapper = make_known(return_at="transaction")
    with override_settings(DATABASE_ROUTERS=[RouterTo(wrapper.alias)]):
        author = Author.objects.create(name="Ursula")
        try:
            Book.objects.bulk_create(
                Book(title=f"Volume {n}", author=author, year=1969) for n in range(300)
            )
            environ = RequestFactory().get("/stream/").environ
            response = WSGIHandler()(environ, lambda *args: None)
            assert held(wrapper) == 0
            lines = iter(response)
            assert next(lines) == b"Volume 0\tUrsula\n"
            assert held(wrapper) == 1
            assert len(list(lines)) == 299
            assert held(wrapper) == 0, "although the request has not ended"
            response.close()
            assert held(wrapper) == 0
        finally:
            Book.objects.filter(author=author).delete()
            author.delete()
