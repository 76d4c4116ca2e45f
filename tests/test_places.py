"""Where in the code a borrow comes from, according to its record."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.request_record import recording
from tests.support.queries import backend_pid

MakeWrapper = Callable[..., DatabaseWrapper]


def place(use: Callable[[], Any]) -> str:
    with recording(with_places=True) as record:
        use()
    (borrow,) = record.borrows()
    return borrow.place


def in_a_thread(use: Callable[[], Any]) -> Callable[[], Any]:
    """As async code does it: the thread has no frame of the application's."""
    return lambda: asyncio.run(sync_to_async(use)())


def test_the_applications_innermost_frame(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    file, _, function = place(lambda: backend_pid(wrapper)).partition(" in ")
    assert file.rsplit(":")[0].endswith("tests/support/queries.py")
    assert function == "fetch"


def test_else_the_library(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()
    found = place(in_a_thread(CaptureQueriesContext(wrapper).__enter__))
    assert "django/test/utils.py:" in found
    assert found.endswith(" in __enter__")


def test_else_the_orms_method(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()
    found = place(in_a_thread(wrapper.temporary_connection().__enter__))
    assert "django/db/backends/base/base.py:" in found


def test_a_function_that_a_transaction_is_put_around(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction begins before the function does, so it has no frame yet."""
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()
    monkeypatch.setitem(connections.settings, wrapper.alias, wrapper.settings_dict)

    @transaction.atomic(using=wrapper.alias)
    def view() -> None:
        pass

    def in_thread() -> None:
        connections[wrapper.alias] = wrapper
        found.append(place(view))

    found: list[str] = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    line = inspect.unwrap(view).__code__.co_firstlineno
    assert found == [f"{__file__}:{line} in view"]
