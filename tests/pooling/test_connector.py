from __future__ import annotations

import traceback
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.pooling.connector import Connector, SessionMaker
from django_pooled_pg.pooling.untold import Untold


def connector(open_session: Any, failures: list[Exception]) -> Connector:
    return Connector("books", SessionMaker(open_session, print), None, failures.append)


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("down"), ImproperlyConfigured("wrong")], ids=str
)
def test_the_servers_and_settings_errors_go_on_as_they_are(error: Exception) -> None:
    def fail(kwargs: dict[str, Any]) -> Any:
        raise error

    failures: list[Exception] = []
    books = connector(fail, failures)
    with pytest.raises(type(error)) as caught:
        books.connect()
    assert caught.value is error
    assert failures == [error]
    assert (books.attempts, books.failures, books.last_error) == (1, 1, error)


def test_other_errors_become_what_users_catch_and_tell_no_text() -> None:
    def fail(kwargs: dict[str, Any]) -> Any:
        raise KeyError("token")

    failures: list[Exception] = []
    message = r"Pool 'books' can't connect: its engine raised KeyError \(.* in fail\)"
    with pytest.raises(psycopg.OperationalError, match=message) as caught:
        connector(fail, failures).connect()
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(failures[0].__cause__, KeyError)
    assert "token" not in "".join(traceback.format_exception(caught.value))


def test_what_a_provider_raised_names_the_pool() -> None:
    def fail(kwargs: dict[str, Any]) -> Any:
        raise Untold("'PASSWORD' raised KeyError")

    with pytest.raises(psycopg.OperationalError) as caught:
        connector(fail, []).connect()
    assert str(caught.value) == "Pool 'books' can't connect: 'PASSWORD' raised KeyError"


def test_psycopg_pools_keywords_are_passed_on() -> None:
    seen = []

    def fail(kwargs: dict[str, Any]) -> Any:
        seen.append(kwargs)
        raise psycopg.OperationalError("down")

    with pytest.raises(psycopg.OperationalError):
        connector(fail, []).connect("", connect_timeout=3)
    assert seen == [{"connect_timeout": 3}]
