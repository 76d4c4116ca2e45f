from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created
from django.dispatch import Signal
from psycopg.sql import SQL, Identifier, Literal

from django_pooled_pg import announcing, connection_borrowed
from django_pooled_pg.base import DatabaseWrapper
from tests.support.processes import ROOT
from tests.support.queries import fetch

MakeWrapper = Callable[..., DatabaseWrapper]

WHO = "SELECT coalesce(current_setting('app.who', true), '')"


@pytest.fixture(autouse=True)
def nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "_told", False)


@contextmanager
def receiving(signal: Signal, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@contextmanager
def request() -> Iterator[None]:
    request_started.send(sender=None)
    try:
        yield
    finally:
        request_finished.send(sender=None)


def execute(connection: DatabaseWrapper, sql: Any, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_each_request_has_its_own_identity(make_wrapper: MakeWrapper, return_at: str) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "return_at": return_at})
    users = iter(["ann", "bob", "cy"])

    def identify(connection: DatabaseWrapper, **kwargs: Any) -> None:
        execute(connection, "SELECT set_config('app.who', %s, false)", [next(users)])

    seen = []
    with receiving(connection_borrowed, identify):
        for _ in range(3):
            with request():
                seen += [fetch(wrapper, WHO), fetch(wrapper, WHO)]
                wrapper.close()
    assert seen == ["ann", "ann", "bob", "bob", "cy", "cy"]
    wrapper.close()
    assert fetch(wrapper, WHO) == ""


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("SET app.who = 'ann'", None),
        ("SET SESSION app.who TO 'ann'", None),
        ("SELECT set_config('app.who', 'ann', false)", None),
        ("SELECT set_config(%s, %s, false)", ["app.who", "ann"]),
        ('SET "app"."who" = \'ann\'', None),
        # SET takes no parameters, so this is how one writes it.
        (SQL("SET {} = {}").format(Identifier("app", "who"), Literal("ann")), None),
    ],
)
def test_a_site_that_would_mix_up_requests_is_told_once(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture, sql: Any, params: Any
) -> None:
    def identify(connection: DatabaseWrapper, **kwargs: Any) -> None:
        execute(connection, sql, params)

    with receiving(connection_created, identify):
        for _ in range(2):
            with request():
                wrapper = make_wrapper()
                fetch(wrapper, "SELECT 1")
                wrapper.close()
    (record,) = [r for r in caplog.records if r.name == "django_pooled_pg.announcing"]
    assert record.levelno == logging.WARNING
    assert "sets app.who" in record.getMessage()
    assert "connection_borrowed" in record.getMessage()
    assert "ann" not in record.getMessage()


@pytest.mark.parametrize("sql", ["SET statement_timeout = '9s'", "SELECT 'app.who'"])
def test_others_are_not(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture, sql: str
) -> None:
    def configure(connection: DatabaseWrapper, **kwargs: Any) -> None:
        execute(connection, sql)

    with receiving(connection_created, configure), request():
        wrapper = make_wrapper()
        fetch(wrapper, "SELECT 1")
        wrapper.close()
    assert "announcing" not in caplog.text


def test_a_receiver_that_installs_an_execute_wrapper(make_wrapper: MakeWrapper) -> None:
    def install(connection: DatabaseWrapper, **kwargs: Any) -> None:
        connection.execute_wrappers.append(wrap)

    def wrap(execute: Any, *args: Any) -> Any:
        return execute(*args)

    wrapper = make_wrapper()
    with receiving(connection_created, install):
        fetch(wrapper, "SELECT 1")
    assert wrapper.execute_wrappers == [wrap]


def test_a_receiver_that_takes_all_execute_wrappers_away(make_wrapper: MakeWrapper) -> None:
    def empty(connection: DatabaseWrapper, **kwargs: Any) -> None:
        connection.execute_wrappers = []

    wrapper = make_wrapper()
    with receiving(connection_created, empty):
        assert fetch(wrapper, "SELECT 1") == 1
    assert wrapper.execute_wrappers == []


@pytest.mark.parametrize("signal", [connection_created, connection_borrowed])
def test_a_receiver_that_closes(make_wrapper: MakeWrapper, signal: Signal) -> None:
    closed = []

    def close(connection: DatabaseWrapper, **kwargs: Any) -> None:
        if not closed:
            closed.append(connection)
            connection.close()

    wrapper = make_wrapper(pool={"max_size": 1})
    with receiving(signal, close):
        assert fetch(wrapper, "SELECT 1") == 1
    assert wrapper.pool is not None
    wrapper.close()
    assert wrapper.pool.statistics().in_use == 0


def test_a_receiver_that_closes_and_goes_on_with_another_connection(
    make_wrapper: MakeWrapper,
) -> None:
    closed = []

    def close(connection: DatabaseWrapper, **kwargs: Any) -> None:
        if not closed:
            closed.append(connection)
            connection.close()
            execute(connection, "SELECT 1")

    wrapper = make_wrapper(pool={"max_size": 1})
    with receiving(connection_created, close):
        assert fetch(wrapper, "SELECT 1") == 1
    wrapper.close()
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().in_use == 0


def test_a_receiver_that_always_closes_is_told(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    with (
        receiving(connection_borrowed, lambda connection, **kwargs: connection.close()),
        pytest.raises(Exception, match="connection_borrowed"),
    ):
        fetch(wrapper, "SELECT 1")


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_the_example_of_the_documentation(make_wrapper: MakeWrapper, return_at: str) -> None:
    """Row-level security: each request sees its user's rows, work outside of requests none."""
    page = (ROOT / "docs" / "moving.md").read_text()
    _, _, section = page.partition("## Receivers of connection_created")
    sql, python = re.findall(r"```(?:sql|python)\n(.*?)```", section, re.DOTALL)[:2]
    admin = make_wrapper()
    execute(admin, "DROP TABLE IF EXISTS notes; CREATE TABLE notes (owner text, text text)")
    execute(admin, f"{sql}; GRANT SELECT ON notes TO pg_monitor")
    execute(admin, "INSERT INTO notes VALUES ('ann', 'of ann'), ('bob', 'of bob')")
    pool = {"max_size": 1, "return_at": return_at}
    site = make_wrapper(OPTIONS={"assume_role": "pg_monitor", "pool": pool})
    notes = "SELECT string_agg(text, ',') FROM notes"

    def view(request: Any) -> list[Any]:
        return [fetch(site, notes), fetch(site, notes)]

    example: dict[str, Any] = {}
    exec(python, example)
    middleware = example["identity"](view)
    try:
        for user in ("ann", "bob", "ann", ""):
            expected = f"of {user}" if user else None
            with request():
                asked = SimpleNamespace(user=SimpleNamespace(get_username=lambda user=user: user))
                assert middleware(asked) == [expected, expected]
                site.close()
            assert fetch(site, notes) is None
            site.close()
    finally:
        connection_borrowed.disconnect(example["tell_the_server"])
        execute(admin, "DROP TABLE notes")
