"""A psycopg_pool or psycopg whose private names have moved gives a clear error."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool
import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg_pool import ConnectionPool

from django_pooled_pg.pooling.backing import versions
from django_pooled_pg.pooling.backing.pool import Backing
from tests.conftest import MakeWrapper
from tests.support.processes import ROOT, environment


def refused(wrapper: Any) -> str:
    with pytest.raises(ImproperlyConfigured) as caught:
        wrapper.ensure_connection()
    return str(caught.value)


def test_what_is_installed_is_known() -> None:
    versions.check_classes()
    versions.check_pool(Backing("", min_size=0, max_size=1, open=False))


@pytest.mark.parametrize("name", ["_maybe_grow_pool", "_add_connection", "run_task"])
def test_a_method_that_is_gone_is_named_with_what_to_install(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    wrapper = make_wrapper()
    monkeypatch.delattr(ConnectionPool, name)
    said = refused(wrapper)
    assert said.startswith(f"psycopg_pool {psycopg_pool.__version__} is installed, ")
    assert f"ConnectionPool.{name}(" in said
    assert 'pip install "psycopg-pool>=3.3.3,<3.4"' in said


def test_a_method_that_takes_something_else_is_named(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper()
    monkeypatch.setattr(ConnectionPool, "_get_ready_connection", lambda self: None)
    assert "ConnectionPool._get_ready_connection(timeout)" in refused(wrapper)


@pytest.mark.parametrize("pool", [{}, {"class": "null"}], ids=["pool", "null"])
def test_an_attribute_that_is_gone_is_named(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, pool: dict[str, Any]
) -> None:
    made: Callable[..., None] = ConnectionPool.__init__

    def without(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        del self._drained_at

    wrapper = make_wrapper(pool=pool)
    monkeypatch.setattr(ConnectionPool, "__init__", without)
    assert "ConnectionPool._drained_at as django_pooled_pg knows it" in refused(wrapper)


def test_an_attribute_of_psycopgs_that_is_gone_is_named(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "CONNECTION", ("_gone",))
    said = refused(make_wrapper())
    assert said.startswith(f"psycopg {psycopg.__version__} is installed, ")
    assert "Connection._gone" in said
    assert 'pip install "psycopg>=3.2"' in said


def test_a_class_that_is_gone_is_named_when_the_engine_is_loaded() -> None:
    """Ours extend it, so there is no later moment; an ImportError would name something else."""
    script = """
import psycopg_pool.pool
del psycopg_pool.pool.ShrinkPool
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django_pooled_pg", "NAME": "books"}})
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
try:
    connection.ensure_connection()
except ImproperlyConfigured as error:
    assert "psycopg_pool.pool.ShrinkPool" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)


def test_the_versions_that_were_read_are_those_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(versions.READ.values()) <= set(project["dependencies"])
    for page in ("README.md", "docs/index.md"):
        assert "psycopg_pool 3.3, from 3.3.3" in " ".join((ROOT / page).read_text().split()), page
