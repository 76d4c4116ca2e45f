"""A secret, in the wrong place or the right one, is revealed nowhere.

Each option and each key of the settings holds one in turn.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import traceback
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.test import override_settings

from django_pooled_pg import validation
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.checks.options import check_options
from django_pooled_pg.checks.pooler import check_pooler
from django_pooled_pg.checks.project import KNOWN, check_settings
from django_pooled_pg.monitoring.server import server_side
from django_pooled_pg.monitoring.snapshot import process_snapshot
from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.pool import Pool
from tests.conftest import MakeWrapper

SECRET = "s3cret-marker"
# The name is shown on purpose: that is what it is for.
OPTIONS = sorted(
    {"class" if f.name == "pool_class" else f.name for f in fields(PoolConfig)} - {"name"}
)

# Nobody writes a secret there, and everybody a wrong path.
SHOWN_AS_PATHS = {"configure", "check", "reset", "reconnect_failed", "connection_class"}


class Talks:
    """Whatever one may write in place of a callable."""

    def __repr__(self) -> str:
        return SECRET

    def __call__(self, *args: Any) -> Any:
        raise ValueError(SECRET)


def takes(secret: str, *args: Any) -> dict[str, Any]:
    return {}


FORMS = {
    "provider": {"provider": SECRET},
    "argument": {"provider": "file", "path": SECRET},
    "unknown argument": {"provider": "file", SECRET: SECRET},
    "text": SECRET,
    "path": f"{SECRET.replace('-', '_')}.word",
    "dict": {"password": SECRET},
    "list": [SECRET],
    "tuple": (SECRET, 1),
    "bytes": SECRET.encode(),
    "object": Talks(),
    "partial": functools.partial(takes, SECRET),
    "exception": ValueError(SECRET),
}


def secret_in(*texts: object) -> list[str]:
    found = [text if isinstance(text, str) else repr(text) for text in texts]
    return [text for text in found if SECRET in text or SECRET.replace("-", "_") in text]


def everything_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def outcome(settings: dict[str, Any]) -> str:
    """What is said of settings: the error, or the configuration and what is checked."""
    try:
        config = PoolConfig.from_settings("default", settings)
    except ImproperlyConfigured as ex:
        return everything_of(ex)
    assert config is not None
    return f"{config!r} {[*check_options('default', settings, config)]!r}"


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert secret_in(caplog.text) == []


@pytest.mark.parametrize(
    ("key", "form"),
    [(k, f) for k in OPTIONS for f in FORMS if not (f == "path" and k in SHOWN_AS_PATHS)],
)
def test_in_an_option(key: str, form: str) -> None:
    said = outcome({"OPTIONS": {"pool": {key: FORMS[form]}}})
    assert secret_in(said) == []
    assert f"['{key}']" in said or said.startswith("PoolConfig(")


@pytest.mark.parametrize("form", FORMS)
def test_in_place_of_all_options(form: str) -> None:
    for settings in (
        {"OPTIONS": {"pool": FORMS[form]}},
        {"OPTIONS": {"pool": {"password": FORMS[form]}}},
        {"OPTIONS": {"pool.password": FORMS[form]}},
        {"OPTIONS": {"pool": {}}, "CONN_MAX_AGE": FORMS[form]},
    ):
        assert secret_in(outcome(settings)) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(KNOWN - {"POOLED_PG_RUNTIME_DIR"}))
def test_in_a_setting_of_ours(name: str, form: str) -> None:
    with override_settings(**{name: FORMS[form]}):
        assert secret_in(*check_settings()) == []


@pytest.mark.parametrize("key", ["prepare_threshold", "assume_role", "server_side_binding"])
def test_in_what_the_checks_of_poolers_look_at(key: str) -> None:
    settings = {"OPTIONS": {"server_side_binding": True, "prepare_threshold": 5, key: SECRET}}
    config = PoolConfig.from_settings("default", settings)
    assert config is not None
    messages = [*check_pooler("default", settings, config, "a test says so")]
    assert messages
    assert secret_in(*(str(message) for message in messages)) == []


def used(wrapper: DatabaseWrapper) -> list[object]:
    """Use a wrapper, and return all that is told of it."""
    told: list[object] = []
    try:
        wrapper.ensure_connection()
    except (Error, ImproperlyConfigured) as ex:
        told.append(everything_of(ex))
    told += [wrapper, wrapper.connection]
    if wrapper._lease is not None:
        told += [wrapper._lease, wrapper._lease.session, wrapper._lease.holder]
    try:
        if (pool := wrapper.pool) is not None:
            told += [pool, pool.config, pool._make, pool.statistics()]
    except ImproperlyConfigured as ex:
        told.append(everything_of(ex))
    told += [json.dumps(process_snapshot(holders=5)), validation._check(wrapper)]
    wrapper.close()
    return told


SETTINGS = {
    "a password": {"PASSWORD": SECRET},
    "a password that is a dict": {"PASSWORD": {"secret": SECRET}},
    "a password that is asked for": {"PASSWORD": functools.partial(takes, SECRET)},
    "a vault that fails": {"PASSWORD": Talks()},
    "a password in OPTIONS": {"OPTIONS": {"password": SECRET}},
    "the password of a key": {"OPTIONS": {"sslpassword": SECRET}},
    "something else's password": {"OPTIONS": {"redis_password": SECRET}},
    "credentials": {"OPTIONS": {"pool": {"credentials": lambda: {"password": SECRET}}}},
    "a wrong name in credentials": {"OPTIONS": {"pool": {"credentials": lambda: {"pw": SECRET}}}},
    "credentials that are none": {"OPTIONS": {"pool": {"credentials": lambda: SECRET}}},
    "credentials that fail": {"OPTIONS": {"pool": {"credentials": Talks()}}},
}


@pytest.mark.parametrize("server", ["there", "away"])
@pytest.mark.parametrize("where", SETTINGS)
def test_in_the_settings_of_a_database(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, where: str, server: str
) -> None:
    place = {"HOST": "127.0.0.1", "PORT": "1"} if server == "away" else {}
    wrapper = make_wrapper(**{**SETTINGS[where], **place})  # type: ignore[arg-type]
    told = used(wrapper)
    monkeypatch.setattr("django.db.connections.settings", {wrapper.alias: wrapper.settings_dict})
    monkeypatch.setattr("django_pooled_pg.monitoring.server.connections", {wrapper.alias: wrapper})
    told += [server_side(wrapper.alias), server_side(wrapper.alias).as_json()]
    assert secret_in(*told) == []


def test_in_no_object_of_the_package(make_wrapper: MakeWrapper) -> None:
    """Whatever a debugger, an error page or a crash report prints of it."""
    wrapper = make_wrapper(PASSWORD=SECRET)
    wrapper.ensure_connection()
    ours = [x for x in gc.get_objects() if str(type(x).__module__).startswith("django_pooled_pg")]
    assert {wrapper, wrapper.pool} <= {x for x in ours if isinstance(x, (DatabaseWrapper, Pool))}
    assert secret_in(*ours) == []
