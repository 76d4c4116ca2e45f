"""What the tests of this folder ask a wrapper, and do with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.signals import request_finished, request_started

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.statistics import PoolStatistics

MakeWrapper = Callable[..., DatabaseWrapper]
MakeKnown = Callable[..., DatabaseWrapper]


@contextmanager
def request() -> Iterator[None]:
    """What Django's handlers do around a request."""
    request_started.send(sender=None)
    try:
        yield
    finally:
        request_finished.send(sender=None)


def statistics(wrapper: DatabaseWrapper) -> PoolStatistics:
    assert wrapper.pool is not None
    return wrapper.pool.statistics()


def held(wrapper: DatabaseWrapper) -> int:
    return statistics(wrapper).in_use


def execute(wrapper: DatabaseWrapper, sql: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)


def fail() -> None:
    raise RuntimeError("no")


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
