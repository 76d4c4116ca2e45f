"""Reads and validates `OPTIONS["pool"]`: keys, defaults, combinations; opens nothing.

Every error is an `ImproperlyConfigured` that names the alias, the option and what to write
instead (`values.py`). Dotted paths are imported here, not when settings load, so that a bad one
ends in a system check and never in a traceback from `manage.py check`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

import psycopg
from django.core.exceptions import ImproperlyConfigured

from .untold import CredentialsProvider, Provider, shown
from .values import Invalid, size, validated

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
    Its repr() leaves out callables, whose own repr() may show anything.
    """

    min_size: int = 1
    max_size: int = 10
    timeout: float = 10.0
    max_waiting: int = 0
    max_idle: float = 600.0
    max_lifetime: float = 3600.0
    reconnect_timeout: float = 300.0
    reconnect_failed: Callable[[Any], None] | None = field(default=None, repr=False)
    num_workers: int = 3
    name: str | None = None
    configure: ConnectionCallback | None = field(default=None, repr=False)
    return_at: Literal["request", "transaction"] = "request"
    check: Literal["auto", "query", "never"] | ConnectionCallback = field(
        default="auto", repr=False
    )
    check_idle: float = 30.0
    reset: Literal["auto", "always", "never"] | ConnectionCallback = field(
        default="auto", repr=False
    )
    credentials: CredentialsProvider | None = field(default=None, repr=False)
    leak_threshold: float | None = None
    connection_class: type[psycopg.Connection[Any]] = psycopg.Connection
    prewarm: Prewarm = False
    budget: int | None = None
    budget_name: str | None = None
    pool_class: Literal["pool", "null"] = "pool"

    @classmethod
    def from_settings(cls, alias: str, settings: Mapping[str, Any]) -> PoolConfig | None:
        """Read `settings["OPTIONS"]["pool"]`; returns `None` without a pool (the value `False`).

        If it is absent, `True` or `None`, the defaults apply. Options from a database URL, such as
        `"pool.max_size": "20"`, override the dict. Raises `ImproperlyConfigured`.
        """
        options = settings.get("OPTIONS", {})
        if not isinstance(options, Mapping):
            raise ImproperlyConfigured(
                f"DATABASES[{alias!r}]['OPTIONS'] is {shown(options)}; give a dict."
            )
        value = options.get("pool")
        if isinstance(value, str):
            value = _from_text(value)
        if value is False:
            return None
        if settings.get("CONN_MAX_AGE", 0) != 0:
            raise ImproperlyConfigured(
                f"DATABASES[{alias!r}]['CONN_MAX_AGE'] is {shown(settings['CONN_MAX_AGE'])}, but the "
                "pool decides how long connections live: Pooling doesn't support persistent "
                "connections. Remove CONN_MAX_AGE (or set it to 0) "
                "and set OPTIONS['pool']['max_lifetime'] and ['max_idle'] instead."
            )
        if value is None or value is True:
            value = {}
        if not isinstance(value, Mapping):
            raise Invalid(alias, None, f"is {shown(value)}; give a dict of options, True or False")
        from_url = {
            key.removeprefix(_IN_URL): _from_text(text)
            for key, text in options.items()
            if str(key).startswith(_IN_URL)
        }
        return _build(alias, settings, {**value, **from_url})

    def resized(
        self,
        alias: str,
        min_size: int | None,
        max_size: int | None,
        budget: int | None = None,
    ) -> PoolConfig:
        """Return the same with other sizes; `None` leaves one as it is.

        A `max_size` equal to the old budget follows the new one. Raises `ImproperlyConfigured`.
        """
        if budget is not None and self.budget is None:
            raise Invalid(alias, "budget", "isn't set, so it can't be changed")
        if budget is not None and max_size is None and self.max_size == self.budget:
            max_size = budget
        given = {"min_size": min_size, "max_size": max_size, "budget": budget}
        sizes = {k: size(alias, k, v) for k, v in given.items() if v is not None}
        config = replace(self, **sizes)  # type: ignore[arg-type]  # two of its many fields
        _check_sizes(alias, config)
        return config


def without_pool(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return connection parameters without the pool options that a database URL set."""
    return {key: value for key, value in parameters.items() if not key.startswith(_IN_URL)}


def with_fresh_password(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a database's settings, with a callable `PASSWORD` replaced by its result.

    Raises `Untold` if the call fails.
    """
    password = settings.get("PASSWORD")
    if callable(password):
        password = Provider("PASSWORD", password)()
    return {**settings, "PASSWORD": password}


# URL libraries put `?pool.max_size=20` into OPTIONS as it is, with 20 as a number or a string.
_IN_URL = "pool."
_WORDS = {"true": True, "false": False, "none": None}


def _from_text(value: Any) -> Any:
    """Read what a URL can only write as text: a number, `true`, `false`, `none`."""
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


_KEYS = sorted("class" if f.name == "pool_class" else f.name for f in fields(PoolConfig))


def _build(alias: str, settings: Mapping[str, Any], given: Mapping[str, Any]) -> PoolConfig:
    for key in given:
        if key not in _KEYS:
            raise _unknown(alias, key)
    values = {k: validated(alias, k, value) for k, value in given.items() if k != "credentials"}
    if (credentials := given.get("credentials")) is not None:
        from .credentials import credentials_of  # few sites need it

        values["credentials"] = credentials_of(alias, settings, credentials)
    null = values.get("class") == "null"
    values["pool_class"] = values.pop("class", "pool")
    values.setdefault("min_size", 0 if null else 1)
    if values.get("max_size", 0) is None:  # psycopg_pool's way to fix the size
        values["max_size"] = values["min_size"]
    # Django's own pool lets a site raise min_size alone, and that must keep working.
    values.setdefault("max_size", values.get("budget") or max(10, values["min_size"]))
    config = replace(PoolConfig(), **values)
    _check_sizes(alias, config)
    return config


def _check_sizes(alias: str, config: PoolConfig) -> None:
    if config.budget is None and config.budget_name is not None:
        raise Invalid(alias, "budget_name", "is set, but 'budget' is not: set that, too")
    if config.budget is not None and config.budget < config.min_size:
        raise Invalid(
            alias,
            "budget",
            f"is {config.budget}, less than min_size {config.min_size}, which each process keeps; "
            "raise the budget, or lower min_size",
        )
    if config.pool_class == "null":
        if config.min_size:
            raise Invalid(
                alias,
                "min_size",
                f"is {config.min_size}, but 'class': 'null' keeps no connections; use 0",
            )
    elif config.max_size < 1:
        raise Invalid(alias, "max_size", "is 0: give at least 1 (only 'class': 'null' takes 0)")
    elif config.min_size > config.max_size:
        raise Invalid(
            alias,
            "min_size",
            f"is {config.min_size}, more than max_size {config.max_size}; "
            f"use a min_size of at most {config.max_size} or raise max_size",
        )


def _unknown(alias: str, key: object) -> Invalid:
    if not isinstance(key, str):
        return Invalid(alias, None, f"has an option whose name is {shown(key)}; give a string")
    if key in NOT_HERE:
        return Invalid(
            alias,
            None,
            f"has the option {key!r}, which is not used here: {NOT_HERE[key]}",
        )
    near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.0)
    return Invalid(
        alias,
        None,
        f"has the unknown option {key!r}; did you mean {near[0]!r}? Options: {', '.join(_KEYS)}",
    )
