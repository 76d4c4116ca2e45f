"""The site's code, called in a pool's workers, may raise anything: they must survive that."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest
from django.db import OperationalError

from tests.conftest import MakeWrapper
from tests.support.queries import fetch
from tests.support.waiting import wait_until

SECRET = "s3cret-marker"


class Failing:
    """Raises the first time, and then no more."""

    def __init__(self, error: type[BaseException], result: Any = None) -> None:
        self._error: BaseException | None = error(SECRET)
        self._result = result

    def __call__(self, *args: Any) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result


# Of a vault's client that was canceled, or is made for the command line.
errors = pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])


@errors
@pytest.mark.parametrize("place", ["credentials", "PASSWORD", "configure"])
def test_while_connecting(
    make_wrapper: MakeWrapper,
    caplog: pytest.LogCaptureFixture,
    place: str,
    error: type[BaseException],
) -> None:
    caplog.set_level(logging.INFO)
    failing = Failing(error, {"credentials": {}, "PASSWORD": ""}.get(place))
    pool: dict[str, Any] = {"max_size": 1, "num_workers": 1, "timeout": 5}
    if place == "PASSWORD":
        wrapper = make_wrapper(pool=pool, PASSWORD=failing)
    else:
        wrapper = make_wrapper(pool={**pool, place: failing})
    with pytest.raises(OperationalError, match=f"raised {error.__name__}") as caught:
        fetch(wrapper, "SELECT 1")
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert fetch(wrapper, "SELECT 1") == 1


@errors
def test_while_resetting(make_wrapper: MakeWrapper, error: type[BaseException]) -> None:
    wrapper = make_wrapper(
        pool={"max_size": 1, "num_workers": 1, "timeout": 5, "reset": Failing(error)}
    )
    for _ in range(2):
        assert fetch(wrapper, "SELECT 1") == 1
        wrapper.close()


@errors
def test_when_the_pool_has_given_up(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    place = {"host": "127.0.0.1", "port": 1}
    wrapper = make_wrapper(
        pool={
            "max_size": 1,
            "num_workers": 1,
            "timeout": 5,
            "reconnect_timeout": 0,
            "reconnect_failed": Failing(error),
            "credentials": place.copy,
        }
    )
    with pytest.raises(OperationalError, match="refused"):
        fetch(wrapper, "SELECT 1")
    wait_until(lambda: "'reconnect_failed' raised" in caplog.text)
    place.clear()
    assert fetch(wrapper, "SELECT 1") == 1
