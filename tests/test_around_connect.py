"""What others put around Django's connect() goes around a borrow."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper as StockDatabaseWrapper
from django.db.backends.signals import connection_created

from django_pooled_pg import around_connect
from django_pooled_pg.pooling.errors import PoolExhausted
from tests.conftest import MakeWrapper
from tests.support.processes import PRELUDE, environment
from tests.support.queries import fetch
from tests.support.waiting import wait_until

Connect = Callable[[Any], None]
cell = around_connect.djangos_connect.__closure__[around_connect._cell]


@pytest.fixture(autouse=True)
def djangos_own() -> Iterator[None]:
    """Let Django's function be as it was."""
    before = cell.cell_contents
    yield
    cell.cell_contents = before


def wrapped(calls: list[Any], djangos: Connect) -> Connect:
    @functools.wraps(djangos)
    def connect(self: Any) -> None:
        calls.append(self)
        djangos(self)
        calls.append(self.connection)

    return connect


class Callable_:
    """Neither a function nor a copy of its name."""

    def __init__(self, calls: list[Any], djangos: Connect) -> None:
        self._calls, self._djangos = calls, djangos

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, wrapper: Any) -> None:
        self._calls.append(wrapper)
        self._djangos(wrapper)
        self._calls.append(wrapper.connection)


AROUND = [wrapped, Callable_]
RETURN_AT = ["request", "transaction"]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("return_at", RETURN_AT)
@pytest.mark.parametrize("owner", [BaseDatabaseWrapper, StockDatabaseWrapper])
def test_it_goes_around_each_borrow(
    make_wrapper: MakeWrapper,
    monkeypatch: pytest.MonkeyPatch,
    around: Any,
    return_at: str,
    owner: Any,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(owner, "connect", around(calls, BaseDatabaseWrapper.connect))
    wrapper = make_wrapper(pool={"return_at": return_at, "max_size": 1})
    created: list[Any] = []

    def receiver(connection: Any, **kwargs: Any) -> None:
        created.append(connection)

    connection_created.connect(receiver)
    try:
        connected = []
        for _ in range(3):
            wrapper.ensure_connection()
            connected += [wrapper, wrapper.connection]
            assert fetch(wrapper, "SHOW transaction_isolation") == "read committed"
            assert wrapper.get_autocommit()
            assert not wrapper.in_atomic_block
            assert wrapper.run_on_commit == []
            wrapper.close()
            assert wrapper.connection is None
    finally:
        connection_created.disconnect(receiver)
    assert calls == connected
    assert created == [wrapper], "sent once, when the session was new"


def test_in_atomic_blocks(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(BaseDatabaseWrapper, "connect", wrapped(calls, BaseDatabaseWrapper.connect))
    wrapper = make_wrapper(pool={"return_at": "transaction"})
    monkeypatch.setitem(connections.settings, wrapper.alias, wrapper.settings_dict)
    monkeypatch.setattr(connections._connections, wrapper.alias, wrapper, raising=False)
    committed = []
    for _ in range(2):
        with transaction.atomic(wrapper.alias):
            assert fetch(wrapper, "SELECT 1") == 1
            with transaction.atomic(wrapper.alias):
                assert fetch(wrapper, "SELECT 2") == 2
            transaction.on_commit(lambda: committed.append(1), using=wrapper.alias)
        assert wrapper.connection is None
    assert committed == [1, 1]
    assert len(calls) == 4


def connected(wrapper: BaseDatabaseWrapper) -> bool:
    """A busy machine may need longer than the pool's timeout to connect."""
    with contextlib.suppress(PoolExhausted):
        wrapper.ensure_connection()
    return wrapper.connection is not None


def test_what_a_borrow_raises_goes_through_it(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []
    djangos = BaseDatabaseWrapper.connect

    def connect(self: Any) -> None:
        try:
            djangos(self)
        except BaseException as ex:
            seen.append(ex)
            raise

    options = {"max_size": 1, "timeout": 0.1}
    holder, wrapper = make_wrapper(options, alias="busy"), make_wrapper(options, alias="busy")
    wait_until(lambda: connected(holder), within=30)
    monkeypatch.setattr(BaseDatabaseWrapper, "connect", connect)
    with pytest.raises(PoolExhausted, match="no connection was free within") as caught:
        wrapper.cursor()
    assert seen == [caught.value]
    with pytest.raises(OperationalError) as refused:
        make_wrapper(NAME="no_such_database").cursor()
    assert seen[1:] == [refused.value.__cause__]
    holder.close()
    assert fetch(wrapper, "SELECT 1") == 1


def test_it_may_refuse(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: Any) -> None:
        raise RuntimeError("no database here")

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", connect)
    with pytest.raises(RuntimeError, match="no database here"):
        make_wrapper().cursor()


def test_wrappers_without_a_pool_connect_as_djangos(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(BaseDatabaseWrapper, "connect", wrapped(calls, BaseDatabaseWrapper.connect))
    pooled, stock = make_wrapper(), make_wrapper(pool=False)
    assert fetch(pooled, "SELECT 1") == fetch(stock, "SELECT 1") == 1  # Django's function leads
    djangos = StockDatabaseWrapper({**stock.settings_dict, "OPTIONS": {}}, "djangos")
    try:
        assert fetch(djangos, "SELECT 1") == 1
        assert [call for call in calls if isinstance(call, BaseDatabaseWrapper)] == [
            pooled,
            stock,
            djangos,
        ]
    finally:
        djangos.close()


def test_with_nothing_around_djangos_function_is_as_it_was(make_wrapper: MakeWrapper) -> None:
    before = cell.cell_contents
    assert fetch(make_wrapper(), "SELECT 1") == 1
    assert cell.cell_contents is before
    assert BaseDatabaseWrapper.connect is around_connect.djangos_connect


def test_a_function_of_djangos_that_is_hidden_is_left_alone(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Something that was there before us, and doesn't say what it is around. Told once."""

    def hidden(self: Any) -> None:
        raise AssertionError("it can't lead to us")

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", lambda self: hidden(self))
    monkeypatch.setattr(around_connect, "djangos_connect", hidden)
    monkeypatch.setattr(around_connect, "_told", False)
    for _ in range(2):
        assert fetch(make_wrapper(), "SELECT 1") == 1
    (record,) = [each for each in caplog.records if each.name == around_connect.__name__]
    assert "it won't see borrows" in record.message


def test_what_is_known_of_djangos_function() -> None:
    assert around_connect.is_djangos(around_connect.djangos_connect)
    assert cell.cell_contents.__name__ == "connect"


RENAMED = """
import functools
import django.utils.asyncio as module
def async_unsafe(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner
module.async_unsafe = async_unsafe
"""
GONE_LATER = """
import django.db.backends.base.base, django.db.backends.postgresql.base
del django.utils.asyncio.async_unsafe
"""
NO_DECORATOR = """
import django.utils.asyncio
django.utils.asyncio.async_unsafe = lambda message_or_function: message_or_function
"""


@pytest.mark.parametrize(
    "change", [RENAMED, GONE_LATER, NO_DECORATOR], ids=["renamed", "gone", "no decorator"]
)
def test_the_engine_works_with_a_django_that_is_another_inside(
    database: dict[str, Any], change: str
) -> None:
    """What is around its connect() isn't called then, which is logged."""
    script = """
import logging
logging.basicConfig()
from django.db.backends.base.base import BaseDatabaseWrapper
djangos, calls = BaseDatabaseWrapper.connect, []
def connect(self):
    calls.append(self)
    djangos(self)
def query():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
query()
BaseDatabaseWrapper.connect = connect
query()
query()
print(len(calls), connection.pool.statistics().borrows)
"""
    settings = {"DATABASES": {"default": database}, "INSTALLED_APPS": []}
    done = subprocess.run(
        [sys.executable, "-c", change + PRELUDE + script],
        env=environment(SETTINGS=json.dumps(settings)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "3"]
    assert done.stderr.count("it won't see borrows") == 1
