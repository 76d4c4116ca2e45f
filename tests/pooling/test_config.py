from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg_pool import ConnectionPool

from django_pooled_pg.pooling.config import NOT_HERE, PoolConfig, without_pool


def read(pool: Any, **settings: Any) -> PoolConfig | None:
    return PoolConfig.from_settings("default", {"OPTIONS": {"pool": pool}, **settings})


def refused(pool: Any, **settings: Any) -> str:
    with pytest.raises(ImproperlyConfigured) as caught:
        read(pool, **settings)
    return str(caught.value)


class Connection(psycopg.Connection[Any]):
    pass


def callback(connection: psycopg.Connection[Any]) -> None:
    pass


@pytest.mark.parametrize("pool", [True, None, {}])
def test_defaults_where_nothing_is_said(pool: Any) -> None:
    assert read(pool) == PoolConfig()
    assert PoolConfig.from_settings("default", {}) == PoolConfig()


def test_false_means_no_pool_whatever_else_is_set() -> None:
    assert read(False) is None
    assert read(False, CONN_MAX_AGE=60) is None


def test_every_keyword_of_psycopg_pool_is_taken_or_explained() -> None:
    theirs = set(inspect.signature(ConnectionPool.__init__).parameters) - {"self"}
    ours = {field.name for field in dataclasses.fields(PoolConfig)}
    assert theirs - ours == set(NOT_HERE)


def test_callables_may_be_dotted_paths() -> None:
    path = f"{__name__}.callback"
    config = read({"configure": path, "check": callback, "reset": path})
    assert config is not None
    assert config.configure is not None
    assert config.configure.__qualname__ == "callback"
    assert config.check is callback


def test_a_dotted_path_may_end_in_a_method() -> None:
    config = read({"check": "psycopg_pool.ConnectionPool.check_connection"})
    assert config is not None
    assert config.check is ConnectionPool.check_connection


def test_connection_class_may_be_a_dotted_path() -> None:
    config = read({"connection_class": "psycopg.Connection"})
    assert config is not None
    assert config.connection_class is psycopg.Connection
    assert read({"connection_class": Connection}).connection_class is Connection  # type: ignore[union-attr]


def test_sizes_follow_each_other() -> None:
    assert read({"min_size": 20}).max_size == 20  # type: ignore[union-attr]
    assert read({"min_size": 4, "max_size": None}).max_size == 4  # type: ignore[union-attr]
    assert read({"max_size": 3}).min_size == 1  # type: ignore[union-attr]
    null = read({"class": "null"})
    assert null is not None
    assert (null.min_size, null.max_size, null.pool_class) == (0, 10, "null")


def test_what_djangos_own_pool_takes_is_taken() -> None:
    config = read({"min_size": 2, "max_size": 4, "timeout": 5, "max_lifetime": 1800, "name": "a"})
    assert config == PoolConfig(min_size=2, max_size=4, timeout=5.0, max_lifetime=1800.0, name="a")


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"maxsize": 3}, ["unknown option 'maxsize'", "did you mean 'max_size'?"]),
        ({"conninfo": "x"}, ["'conninfo'", "HOST"]),
        ({"kwargs": {}}, ["'kwargs'", "directly into OPTIONS"]),
        ({"min_size": 5, "max_size": 3}, ["['min_size'] is 5", "max_size 3"]),
        ({"max_size": 0}, ["['max_size'] is 0", "at least 1"]),
        ({"max_size": "4"}, ["['max_size'] is a string", "whole number"]),
        ({"max_size": True}, ["['max_size'] is True", "whole number"]),
        ({"num_workers": 0}, ["['num_workers'] is 0", "at least 1"]),
        ({"timeout": -1}, ["['timeout'] is -1", "at least 0.001"]),
        ({"timeout": 0}, ["['timeout'] is 0", "at least 0.001"]),
        ({"max_idle": math.nan}, ["['max_idle'] is nan"]),
        ({"reconnect_timeout": -0.1}, ["['reconnect_timeout'] is -0.1", "at least 0"]),
        ({"configure": "no.such.thing"}, ["['configure']", "can't be imported", "no.such.thing"]),
        ({"configure": 3}, ["['configure'] is 3", "a callable or a dotted path"]),
        ({"check": 3}, ["['check'] is 3", "'auto', 'query', 'never', a callable"]),
        ({"check": "sometimes"}, ["['check'] is another string", "'auto', 'query', 'never'"]),
        ({"reset": "all"}, ["['reset'] is another string", "'auto', 'always', 'never'"]),
        ({"check_idle": -1}, ["['check_idle'] is -1", "at least 0"]),
        ({"leak_threshold": 0}, ["['leak_threshold'] is 0", "at least 0.1", "None for never"]),
        ({"credentials": {}}, ["['credentials'] needs a 'provider'", "a callable"]),
        ({"connection_class": dict}, ["['connection_class']", "psycopg.Connection"]),
        ({"prewarm": 1}, ["['prewarm'] is 1", "False, True, 'wait'"]),
        ({"class": "nul"}, ["['class'] is another string", "'pool', 'null'"]),
        ({"class": "null", "min_size": 1}, ["['min_size'] is 1", "keeps no connections"]),
        ({"name": 3}, ["['name'] is 3", "a string"]),
        ("yes", ["is a string", "True or False"]),
        ({3: 4}, ["whose name is 3", "give a string"]),
    ],
    ids=str,
)
def test_bad_settings_say_which_and_what_to_write(pool: Any, said: list[str]) -> None:
    message = refused(pool)
    assert message.startswith("DATABASES['default']['OPTIONS']['pool']")
    for words in said:
        assert words in message


@pytest.mark.parametrize("options", ["s3cret", ["pool"], 5, None], ids=repr)
def test_options_must_be_a_dict(options: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        PoolConfig.from_settings("default", {"OPTIONS": options})
    assert "DATABASES['default']['OPTIONS']" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("age", [60, None])
def test_persistent_connections_are_refused_with_the_way_out(age: int | None) -> None:
    message = refused({}, CONN_MAX_AGE=age)
    assert f"['CONN_MAX_AGE'] is {age}" in message
    assert "max_lifetime" in message


def test_settings_are_not_changed() -> None:
    pool = {"max_size": None, "min_size": 2, "class": "pool"}
    read(pool)
    assert pool == {"max_size": None, "min_size": 2, "class": "pool"}


def from_url(**options: Any) -> PoolConfig | None:
    options = {f"pool.{key}": value for key, value in options.items()}
    return PoolConfig.from_settings("default", {"OPTIONS": options})


def test_texts_out_of_a_url() -> None:
    config = from_url(
        max_size="20",
        min_size=2,  # some libraries read numbers themselves
        timeout="0.5",
        leak_threshold="None",
        prewarm="TRUE",
        return_at="transaction",
        check=f"{__name__}.callback",
        name="books",
    )
    assert config is not None
    assert config.check is not PoolConfig().check
    assert dataclasses.replace(config, check="auto") == PoolConfig(
        max_size=20,
        min_size=2,
        timeout=0.5,
        prewarm=True,
        return_at="transaction",
        name="books",
    )
    assert from_url(prewarm="wait").prewarm == "wait"  # type: ignore[union-attr]
    assert from_url(min_size="3", max_size="none").max_size == 3  # type: ignore[union-attr]


def test_a_url_goes_before_the_dict() -> None:
    options = {"pool": {"max_size": 4, "timeout": 3}, "pool.max_size": "5"}
    config = PoolConfig.from_settings("default", {"OPTIONS": options})
    assert config == PoolConfig(max_size=5, timeout=3)


@pytest.mark.parametrize("text", ["true", "True", "none"])
def test_a_text_may_switch_the_pool_on(text: str) -> None:
    assert read(text) == PoolConfig()


def test_a_text_may_switch_the_pool_off() -> None:
    assert read("false") is None


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("maxsize", "3", ["unknown option 'maxsize'", "did you mean 'max_size'?"]),
        ("max_size", "abc", ["['max_size'] is a string", "whole number"]),
        ("max_size", "2.5", ["['max_size'] is 2.5", "whole number"]),
        ("max_size", [1, 2], ["['max_size'] is of type list", "whole number"]),  # given twice
        ("max_size", "true", ["['max_size'] is True", "whole number"]),
        ("timeout", "-1", ["['timeout'] is -1", "at least 0.001"]),
        ("timeout", "nan", ["['timeout'] is nan"]),
        ("prewarm", "1", ["['prewarm'] is 1", "False, True, 'wait'"]),
        ("return_at", "end", ["['return_at'] is another string", "'request', 'transaction'"]),
        ("kwargs", "x", ["'kwargs'", "directly into OPTIONS"]),
    ],
    ids=str,
)
def test_bad_texts_say_which_and_what_to_write(key: str, text: Any, said: list[str]) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        from_url(**{key: text})
    message = str(caught.value)
    assert message.startswith("DATABASES['default']['OPTIONS']['pool']")
    for words in said:
        assert words in message


def test_without_pool() -> None:
    assert without_pool({"pool.max_size": 3, "sslmode": "require"}) == {"sslmode": "require"}


def test_a_connection_class_with_slots_is_refused() -> None:
    class Slotted(psycopg.Connection[Any]):
        __slots__ = ("tenant",)

    with pytest.raises(ImproperlyConfigured, match="without __slots__"):
        PoolConfig.from_settings("default", {"OPTIONS": {"pool": {"connection_class": Slotted}}})


def test_a_process_may_have_all_of_its_budget_unless_max_size_says_less() -> None:
    def sizes(**pool: Any) -> tuple[int, int | None]:
        config = PoolConfig.from_settings("default", {"OPTIONS": {"pool": pool}})
        assert config is not None
        return config.max_size, config.budget

    assert sizes() == (10, None)
    assert sizes(budget=40) == (40, 40)
    assert sizes(budget=40, max_size=8) == (8, 40)
    assert sizes(**{"budget": 40, "class": "null"}) == (40, 40)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"budget": 0}, "'budget'] is 0; give a whole number of at least 1"),
        ({"budget": "many"}, "'budget'] is"),
        ({"budget": 2, "min_size": 3}, "'budget'] is 2, less than min_size 3"),
        ({"budget_name": "shop"}, "'budget_name'] is set, but 'budget' is not"),
        ({"budget": 2, "budget_name": 3}, "'budget_name'] is 3; give a string"),
    ],
)
def test_budgets_that_cannot_be(pool: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(said)):
        PoolConfig.from_settings("default", {"OPTIONS": {"pool": pool}})
