"""Tells pytest about the assertions of `testing`; imports no Django before a test asks for it.

pytest imports this in each environment that has this package, so it must cost nothing to those who
don't use it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

# Hooks like the one below came with pytest 8; the plugin must not break older versions.
_IS_KNOWN = pytest.version_tuple >= (8,)
_CALLING = "no_connection_while_calling"
_OPTION = "--no-connection-while-calling"
_ALLOWED = "pooled_pg_allowed_calls"
_MARKERS = {
    "max_borrows": "(n, *, using=None, return_at=None): fail if the test borrows more than n "
    "connections of an alias (django_pooled_pg).",
    _CALLING: "(*functions, allow=(), using=None, return_at=None): fail if the test holds a "
    "connection while it calls another service (django_pooled_pg).",
    "no_session_state": "(*, using=None): fail if the test leaves state in a database session "
    "(django_pooled_pg).",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    if not _IS_KNOWN:
        return
    parser.getgroup("django_pooled_pg").addoption(
        _OPTION,
        choices=("request", "transaction", "configured"),
        help="Fail each test that holds a database connection while it calls another service, with "
        "this return_at of the pools, or with the configured one.",
    )
    parser.addini(
        _ALLOWED,
        "Hosts that may be called while a connection is held, such as redis:6379.",
        type="linelist",
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, text in _MARKERS.items() if _IS_KNOWN else ():
        config.addinivalue_line("markers", name + text)


def _watch(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _within(list(_assertions(item))))


if _IS_KNOWN:
    pytest_runtest_call = pytest.hookimpl(wrapper=True)(_watch)


def _within(
    assertions: Sequence[AbstractContextManager[None]],
) -> Generator[None, object, object]:
    if not assertions:
        return (yield)
    first, *others = assertions
    first.__enter__()
    try:
        result = yield from _within(others)
    except BaseException:
        first.__exit__(*sys.exc_info())
        raise
    failure = ""
    try:
        first.__exit__(None, None, None)
    except AssertionError as ex:
        failure = str(ex)
    if failure:
        pytest.fail(failure, pytrace=False)  # no line of the test is at fault
    return result


def _assertions(item: pytest.Item) -> Iterator[AbstractContextManager[None]]:
    for name in _MARKERS:
        marker = item.get_closest_marker(name)
        if marker is not None:
            _require_can_watch(item, name)
            yield _assertion(item, name, marker.args, marker.kwargs)
        elif name == _CALLING and (how := item.config.getoption(_OPTION)) and _can_watch(item):
            yield _assertion(item, name, (), {"return_at": None if how == "configured" else how})


def _assertion(
    item: pytest.Item, name: str, args: Any, kwargs: Mapping[str, Any]
) -> AbstractContextManager[None]:
    from .testing import assertions

    if name == _CALLING:
        kwargs = {**kwargs, "allow": [*kwargs.get("allow", ()), *item.config.getini(_ALLOWED)]}
    assertion: AbstractContextManager[None] = getattr(assertions, name)(*args, **kwargs)
    return assertion


def _require_can_watch(item: pytest.Item, name: str) -> None:
    if not _can_watch(item):
        pytest.fail(
            f"The marker {name} can't watch a coroutine, which runs in a context of its own: "
            f"use `async with {name}(...)` of django_pooled_pg in the test.",
            pytrace=False,
        )
    if name != _CALLING and _is_of_unittest(item):
        pytest.fail(
            f"The marker {name} would also watch the set-up of a TestCase: use PoolAssertions of "
            "django_pooled_pg in the test.",
            pytrace=False,
        )


def _can_watch(item: pytest.Item) -> bool:
    return not inspect.iscoroutinefunction(getattr(item, "obj", None))


def _is_of_unittest(item: pytest.Item) -> bool:
    # Whoever has written such a test has imported it.
    case = sys.modules.get("unittest.case")
    return case is not None and issubclass(getattr(item, "cls", None) or object, case.TestCase)
