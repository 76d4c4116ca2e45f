"""Validates each value of `OPTIONS["pool"]` by itself; `config.py` knows what goes together.

`credentials` is in `credentials.py`.

Every error names the alias, the option and what to write instead. It shows a value only if that is
a number or a dotted path: anything else may be a secret in the wrong place.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured

from .untold import shown, untold

# PostgreSQL allows no more: https://www.postgresql.org/docs/current/runtime-config-connection.html
_MOST_CONNECTIONS = 262_143
_SIZES = {
    "min_size": (0, _MOST_CONNECTIONS),
    "max_size": (0, _MOST_CONNECTIONS),
    "budget": (1, _MOST_CONNECTIONS),
    "max_waiting": (0, 2**31 - 1),
    # Each is a thread that starts with the pool.
    "num_workers": (1, 1000),
}

# The minimum of each time. Some work is done every `max_idle` seconds, or several times per
# `leak_threshold`: smaller values would keep the processor busy.
_TIMES = {
    "timeout": 0.001,
    "max_idle": 0.1,
    "max_lifetime": 0.001,
    "reconnect_timeout": 0.0,
    "check_idle": 0.0,
    "leak_threshold": 0.1,
}
# Locks and clocks don't accept arbitrarily long times; psycopg_pool's scheduler dies of one.
_YEAR = 365 * 24 * 3600

_CALLABLES = {"reconnect_failed", "configure"}
_CHOICES: dict[str, tuple[object, ...]] = {
    "prewarm": (False, True, "wait"),
    "return_at": ("request", "transaction"),
    "class": ("pool", "null"),
}
# A choice, or a callable. psycopg_pool's default is None, so None is accepted.
_CHOICES_OR_CALLABLES = {
    "check": ("auto", "query", "never"),
    "reset": ("auto", "always", "never"),
}
# A dotted path, or `module:name`.
PATH = r"[^\W\d]\w*([.:][^\W\d]\w*)+"


class Invalid(ImproperlyConfigured):
    """`OPTIONS["pool"]`, or its option `key`, is wrong; `problem` says how."""

    def __init__(self, alias: str, key: str | None, problem: str) -> None:
        place = f"DATABASES[{alias!r}]['OPTIONS']['pool']" + (f"[{key!r}]" if key else "")
        super().__init__(f"{place} {problem}.")


def validated(alias: str, key: str, value: Any) -> Any:
    """Return a known option's value in the form that the pool uses, or raise `Invalid`."""
    if key in _SIZES:
        may_be_none = key in ("max_size", "budget")
        return None if value is None and may_be_none else size(alias, key, value)
    if key in _TIMES:
        return None if value is None and key == "leak_threshold" else _time(alias, key, value)
    if key in _CALLABLES:
        return None if value is None else _imported(alias, key, value, callable, "a callable")
    if key in _CHOICES_OR_CALLABLES:
        return _choice_or_callable(alias, key, value)
    if key == "connection_class":
        return _imported(
            alias,
            key,
            value,
            _is_connection_class,
            "a psycopg.Connection subclass without __slots__",
        )
    if key in ("name", "budget_name"):
        if value is None or isinstance(value, str):
            return value
        raise Invalid(alias, key, f"is {shown(value)}; give a string")
    return _choice(alias, key, value, _CHOICES[key])


def size(alias: str, key: str, value: Any) -> int:
    """Return a valid size, or raise `Invalid`."""
    least, most = _SIZES[key]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and least <= value <= most:
        return int(value)
    unlimited = " (0: no limit)" if key == "max_waiting" else ""
    raise Invalid(
        alias,
        key,
        f"is {shown(value)}; give a whole number of at least {least}{unlimited} and at most {most}",
    )


def _time(alias: str, key: str, value: Any) -> float:
    least = _TIMES[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and least <= value <= _YEAR:
        return float(value)
    never = ", or None for never" if key == "leak_threshold" else ""
    raise Invalid(
        alias,
        key,
        f"is {shown(value)}; give seconds, at least {least:g} and at most {_YEAR} (a year, which "
        f"is as good as never){never}",
    )


def _choice(alias: str, key: str, value: Any, allowed: tuple[object, ...]) -> Any:
    # Not `in`: 0 == False and 1 == True, but the documentation offers neither 0 nor 1.
    for choice in allowed:
        if type(value) is type(choice) and value == choice:
            return value
    raise Invalid(alias, key, f"is {_other(value)}; use one of {', '.join(map(repr, allowed))}")


def _choice_or_callable(alias: str, key: str, value: Any) -> Any:
    choices = _CHOICES_OR_CALLABLES[key]
    if value is None:
        return choices[0]
    if isinstance(value, str) and value in choices:
        return value
    names = ", ".join(map(repr, choices))
    if isinstance(value, str) and not re.fullmatch(PATH, value):
        raise Invalid(alias, key, f"is {_other(value)}; use one of {names}, or a callable")
    return _imported(alias, key, value, callable, f"one of {names}, a callable")


def _other(value: object) -> str:
    return "another string" if isinstance(value, str) else shown(value)


def _is_connection_class(value: Any) -> bool:
    # Handles share a connection's __dict__, so no attribute may live elsewhere.
    return (
        isinstance(value, type)
        and issubclass(value, psycopg.Connection)
        and not any(vars(each).get("__slots__") for each in value.__mro__)
    )


def _imported(alias: str, key: str, value: Any, accept: Callable[[Any], bool], wanted: str) -> Any:
    if isinstance(value, str) and re.fullmatch(PATH, value):
        try:
            value = pkgutil.resolve_name(value)
        except (ImportError, AttributeError) as ex:
            raise Invalid(alias, key, f"can't be imported from {value!r}: {ex}") from ex
        except Exception as ex:  # importing a user's module may raise anything
            error = untold(f"importing {value!r}", ex)
            raise Invalid(alias, key, f"can't be imported: {error}") from error.__cause__
    if not accept(value):
        raise Invalid(alias, key, f"is {shown(value)}; give {wanted} or a dotted path to one")
    return value
