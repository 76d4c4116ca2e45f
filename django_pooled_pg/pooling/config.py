"""Owns `OPTIONS["pool"]`: its keys, defaults and validation; opens nothing.

Every error is an `ImproperlyConfigured` that names the alias, the option and what to write
instead. Dotted paths are imported here, not when settings load, so that a bad one ends in a
system check and never in a traceback out of `manage.py check`.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

import psycopg
from django.core.exceptions import ImproperlyConfigured

Connection: TypeAlias = psycopg.Connection[Any]
ConnectionCallback = Callable[[Connection], None]
Prewarm = Literal[False, True, "wait"]

# Keywords of psycopg_pool that make no sense here, with what to write instead.
NOT_HERE = {
    "conninfo": "put connection parameters into DATABASES (HOST, NAME, ...) and OPTIONS",
    "kwargs": "put connection parameters directly into OPTIONS",
    "open": "use 'prewarm' to open connections before the first request",
    "close_returns": "leave it out: connection.close() returns the connection anyway",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The settings of one pool, validated. Times are in seconds.

    The keywords of psycopg_pool's `ConnectionPool` keep their meaning
    (https://www.psycopg.org/psycopg3/docs/api/pool.html); `pool_class` is the key `class`.
    """

    min_size: int = 1
    max_size: int = 10
    timeout: float = 10.0
    max_waiting: int = 0
    max_idle: float = 600.0
    max_lifetime: float = 3600.0
    reconnect_timeout: float = 300.0
    reconnect_failed: Callable[[Any], None] | None = None
    num_workers: int = 3
    name: str | None = None
    configure: ConnectionCallback | None = None
    return_at: Literal["request", "transaction"] = "request"
    check: Literal["auto", "query", "never"] | ConnectionCallback = "auto"
    check_idle: float = 30.0
    reset: Literal["auto", "always", "never"] | ConnectionCallback = "auto"
    credentials: Callable[[], Mapping[str, Any]] | None = None
    leak_threshold: float | None = None
    connection_class: type[psycopg.Connection[Any]] = psycopg.Connection
    prewarm: Prewarm = False
    pool_class: Literal["pool", "null"] = "pool"

    @classmethod
    def from_settings(cls, alias: str, settings: Mapping[str, Any]) -> PoolConfig | None:
        """Read `settings["OPTIONS"]["pool"]`; `None` means: no pool (the value `False`).

        Absent, `True` and `None` mean the defaults. What a database URL says, as
        `"pool.max_size": "20"`, goes before. Raises `ImproperlyConfigured`.
        """
        options = settings.get("OPTIONS", {})
        value = options.get("pool")
        if isinstance(value, str):
            value = _from_text(value)
        if value is False:
            return None
        if settings.get("CONN_MAX_AGE", 0) != 0:
            raise ImproperlyConfigured(
                f"DATABASES[{alias!r}]['CONN_MAX_AGE'] is {settings['CONN_MAX_AGE']!r}, but the "
                "pool decides how long connections live: Pooling doesn't support persistent "
                "connections. Remove CONN_MAX_AGE (or set it to 0) "
                "and set OPTIONS['pool']['max_lifetime'] and ['max_idle'] instead."
            )
        if value is None or value is True:
            value = {}
        if not isinstance(value, Mapping):
            raise _Invalid(alias, None, f"is {value!r}; give a dict of options, True or False")
        from_url = {
            key.removeprefix(_IN_URL): _from_text(text)
            for key, text in options.items()
            if key.startswith(_IN_URL)
        }
        return _build(alias, {**value, **from_url})

    def resized(self, alias: str, min_size: int | None, max_size: int | None) -> PoolConfig:
        """Return the same with other sizes; `None` leaves one as it is.

        Raises `ImproperlyConfigured`.
        """
        given = {"min_size": min_size, "max_size": max_size}
        sizes = {k: _size(alias, k, v) for k, v in given.items() if v is not None}
        config = replace(self, **sizes)  # type: ignore[arg-type]
        _check_sizes(alias, config)
        return config


def without_pool(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return connection parameters without what a database URL says of the pool."""
    return {key: value for key, value in parameters.items() if not key.startswith(_IN_URL)}


def with_fresh_password(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a database in which a callable `PASSWORD` was called."""
    password = settings.get("PASSWORD")
    return {**settings, "PASSWORD": password() if callable(password) else password}


# Libraries that read URLs put `?pool.max_size=20` into OPTIONS as it is: 20, or a text.
_IN_URL = "pool."
_WORDS = {"true": True, "false": False, "none": None}


def _from_text(value: Any) -> Any:
    """Read what a URL can't say but as a text: a number, `true`, `false`, `none`."""
    if not isinstance(value, str):
        return value
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            pass
    return value


class _Invalid(ImproperlyConfigured):
    def __init__(self, alias: str, key: str | None, problem: str) -> None:
        place = f"DATABASES[{alias!r}]['OPTIONS']['pool']" + (f"[{key!r}]" if key else "")
        super().__init__(f"{place} {problem}.")


_FIELDS = {f.name: f for f in fields(PoolConfig)}
_KEYS = sorted({"class" if name == "pool_class" else name for name in _FIELDS})
_SIZES = {"min_size", "max_size", "max_waiting", "num_workers"}
_POSITIVE_TIMES = {"timeout", "max_idle", "max_lifetime", "leak_threshold"}
_TIMES = _POSITIVE_TIMES | {"reconnect_timeout", "check_idle"}
_CALLABLES = {"reconnect_failed", "configure", "credentials"}
_CHOICES: dict[str, tuple[object, ...]] = {
    "prewarm": (False, True, "wait"),
    "return_at": ("request", "transaction"),
    "class": ("pool", "null"),
}
# A choice, or a callable. None is what psycopg_pool calls the default.
_CHOICES_OR_CALLABLES = {
    "check": ("auto", "query", "never"),
    "reset": ("auto", "always", "never"),
}


def _build(alias: str, given: Mapping[str, Any]) -> PoolConfig:
    values = {key: _validated(alias, key, value) for key, value in given.items()}
    null = values.get("class") == "null"
    values["pool_class"] = values.pop("class", "pool")
    values.setdefault("min_size", 0 if null else 1)
    if values.get("max_size", 0) is None:  # psycopg_pool's way to say: a fixed size
        values["max_size"] = values["min_size"]
    # A site that raised only min_size, as Django's own pool lets it, must keep working.
    values.setdefault("max_size", max(10, values["min_size"]))
    config = replace(PoolConfig(), **values)
    _check_sizes(alias, config)
    return config


def _check_sizes(alias: str, config: PoolConfig) -> None:
    if config.pool_class == "null":
        if config.min_size:
            raise _Invalid(
                alias,
                "min_size",
                f"is {config.min_size}, but 'class': 'null' keeps no connections; use 0",
            )
    elif config.max_size < 1:
        raise _Invalid(alias, "max_size", "is 0: give at least 1 (only 'class': 'null' takes 0)")
    elif config.min_size > config.max_size:
        raise _Invalid(
            alias,
            "min_size",
            f"is {config.min_size}, more than max_size {config.max_size}; "
            f"use a min_size of at most {config.max_size} or raise max_size",
        )


def _validated(alias: str, key: str, value: Any) -> Any:
    if key not in _KEYS:
        raise _unknown(alias, key)
    if key in _SIZES:
        return _size(alias, key, value)
    if key in _TIMES:
        return None if value is None and key == "leak_threshold" else _time(alias, key, value)
    if key in _CALLABLES:
        return _imported(alias, key, value, callable, "a callable") if value is not None else None
    if key in _CHOICES_OR_CALLABLES:
        return _choice_or_callable(alias, key, value)
    if key == "connection_class":
        return _imported(alias, key, value, _is_connection_class, "a psycopg.Connection subclass")
    if key == "name":
        if value is None or isinstance(value, str):
            return value
        raise _Invalid(alias, key, f"is {value!r}; give a string")
    return _choice(alias, key, value, _CHOICES[key])


def _unknown(alias: str, key: str) -> _Invalid:
    if key in NOT_HERE:
        return _Invalid(
            alias,
            None,
            f"has the option {key!r}, which is not used here: {NOT_HERE[key]}",
        )
    near = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0.0)
    return _Invalid(
        alias,
        None,
        f"has the unknown option {key!r}; did you mean {near[0]!r}? Options: {', '.join(_KEYS)}",
    )


def _size(alias: str, key: str, value: Any) -> int | None:
    if key == "max_size" and value is None:
        return None
    least = 1 if key == "num_workers" else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _Invalid(alias, key, f"is {value!r}; give a whole number of at least {least}")
    return value


def _time(alias: str, key: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value < 0 or value != value or (value == 0 and key in _POSITIVE_TIMES):
        sign = "more than 0" if key in _POSITIVE_TIMES else "0 or more"
        raise _Invalid(alias, key, f"is {value!r}; give seconds, {sign}")
    return float(value)


def _choice(alias: str, key: str, value: Any, allowed: tuple[object, ...]) -> Any:
    # Not `in`: 0 == False and 1 == True, but they aren't what the documentation offers.
    for choice in allowed:
        if type(value) is type(choice) and value == choice:
            return value
    raise _Invalid(alias, key, f"is {value!r}; use one of {', '.join(map(repr, allowed))}")


def _choice_or_callable(alias: str, key: str, value: Any) -> Any:
    choices = _CHOICES_OR_CALLABLES[key]
    if value is None:
        return choices[0]
    if value in choices:
        return value
    names = ", ".join(map(repr, choices))
    if isinstance(value, str) and "." not in value:
        raise _Invalid(alias, key, f"is {value!r}; use one of {names}, or a callable")
    return _imported(alias, key, value, callable, f"one of {names}, a callable")


def _is_connection_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, psycopg.Connection)


def _imported(alias: str, key: str, value: Any, accept: Callable[[Any], bool], wanted: str) -> Any:
    if isinstance(value, str):
        try:
            value = pkgutil.resolve_name(value)
        except Exception as ex:  # a user's module may raise anything when it is imported
            raise _Invalid(alias, key, f"can't be imported from {value!r}: {ex}") from ex
    if not accept(value):
        raise _Invalid(alias, key, f"is {value!r}; give {wanted} or a dotted path to one")
    return value
