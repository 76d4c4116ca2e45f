from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest

from django_pooled_pg.pooling.untold import (
    CredentialsProvider,
    Provider,
    Untold,
    kind,
    shown,
    untold,
)

SECRET = "s3cret-marker"


class Talks:
    def __repr__(self) -> str:
        return SECRET


class Number(int):
    def __repr__(self) -> str:
        return SECRET


class Wants(Exception):
    """Can't be printed unless it was made with what it wants."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def __str__(self) -> str:
        return f"the vault said {self.answer}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        (2.5, "2.5"),
        (float("inf"), "inf"),
        (10**5000, "a number of more than 18 digits"),
        (SECRET, "a string"),
        ({"password": SECRET}, "of type dict"),
        ([SECRET], "of type list"),
        (SECRET.encode(), "of type bytes"),
        (Talks(), "of type Talks"),
        (Number(3), "of type Number"),
        (Talks, "the class Talks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_are_shown_and_of_the_rest_the_type(value: object, said: str) -> None:
    assert shown(value) == said
    assert kind(value) == f"of type {type(value).__qualname__}"


def ask() -> Any:
    raise KeyError(SECRET)


def raised(provider: Provider) -> Untold:
    with pytest.raises(Untold) as caught:
        provider()
    return caught.value


def test_an_error_of_a_provider_tells_its_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    error = raised(Provider("PASSWORD", ask))
    assert str(error).startswith(f"'PASSWORD' raised KeyError ({__file__}:")
    assert " in ask)" in str(error)
    assert type(error.__cause__) is KeyError
    assert error.__context__ is None
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error) + caplog.text


def test_the_rest_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    error = raised(Provider("PASSWORD", ask))
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("DEBUG", "django_pooled_pg.pooling.untold")
    assert record.name in str(error)
    assert SECRET in caplog.text


def test_no_frame_of_the_traceback_has_it_in_a_variable() -> None:
    """Error pages and Sentry show them."""
    error = raised(Provider("PASSWORD", ask))
    where = error.__traceback__
    while where is not None:
        assert SECRET not in repr(
            {k: v for k, v in where.tb_frame.f_locals.items() if not k.startswith("@")}
        )
        where = where.tb_next
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is None


def test_an_error_that_can_not_be_made_anew_is_stood_for() -> None:
    error = untold("'PASSWORD'", Wants(SECRET))
    assert str(error).startswith("'PASSWORD' raised Wants. ")
    assert (type(error.__cause__), str(error.__cause__)) == (Exception, "Wants")


def test_what_is_no_dict_of_parameters_is_refused_without_showing_it() -> None:
    error = raised(CredentialsProvider(lambda: SECRET))
    assert "'credentials' returned something of type str" in str(error)
    assert SECRET not in str(error)


def test_a_provider_returns_what_the_callable_returns() -> None:
    assert Provider("PASSWORD", lambda: SECRET)() == SECRET
    assert CredentialsProvider(lambda: {"password": SECRET})() == {"password": SECRET}
    assert repr(CredentialsProvider(Talks, renew=Talks())) == "<Provider 'credentials'>"
