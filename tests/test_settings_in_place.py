"""If a site changes settings in place, for a tenant's database for example, the new ones count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry
from tests.support.queries import connect, fetch

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def databases(database: dict[str, Any]) -> Iterator[list[str]]:
    """Two databases."""
    names = [f"{database['NAME']}_{tenant}" for tenant in "ab"]
    with connect(database) as server:
        for name in names:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            server.execute(f"CREATE DATABASE {name}")
        yield names
        for name in names:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["request", "transaction"])
def wrapper(request: pytest.FixtureRequest, make_wrapper: MakeWrapper) -> Iterator[DatabaseWrapper]:
    request_started.send(sender=None)
    yield make_wrapper(pool={"return_at": request.param})
    request_finished.send(sender=None)


def test_another_database_in_each_request(wrapper: DatabaseWrapper, databases: list[str]) -> None:
    seen = []
    for name in databases * 2:
        wrapper.close()
        wrapper.settings_dict["NAME"] = name
        seen.append(fetch(wrapper, "SELECT current_database()"))
    wrapper.close()
    wrapper.close_pool()
    assert seen == databases * 2


def test_another_user(wrapper: DatabaseWrapper) -> None:
    assert fetch(wrapper, "SELECT 1") == 1
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(817)")
        cursor.execute("DROP ROLE IF EXISTS tenant_in_place")
        cursor.execute("CREATE ROLE tenant_in_place LOGIN")
    wrapper.close()
    user = wrapper.settings_dict["USER"]
    wrapper.settings_dict["USER"] = "tenant_in_place"
    assert fetch(wrapper, "SELECT current_user") == "tenant_in_place"
    wrapper.close()
    wrapper.settings_dict["USER"] = user
    assert fetch(wrapper, "SELECT current_user") == user
    wrapper.close_pool()
    with wrapper.cursor() as cursor:
        cursor.execute("DROP ROLE tenant_in_place")


def test_a_change_by_another_thread_while_the_pool_is_looked_up(
    wrapper: DatabaseWrapper, databases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django has one dict of settings for the wrappers of all threads."""
    first, second = databases
    found = registry.pool_for

    def while_it_changes(*args: Any) -> Any:
        pool = found(*args)
        wrapper.settings_dict["NAME"] = second
        return pool

    wrapper.settings_dict["NAME"] = first
    with monkeypatch.context() as patch:
        patch.setattr(registry, "pool_for", while_it_changes)
        assert fetch(wrapper, "SELECT current_database()") == first
    wrapper.close()
    assert fetch(wrapper, "SELECT current_database()") == second
    wrapper.close()
    wrapper.close_pool()


def test_options_within_options(wrapper: DatabaseWrapper) -> None:
    wrapper.settings_dict["OPTIONS"]["application_name"] = "first"
    assert fetch(wrapper, "SHOW application_name") == "first"
    wrapper.close()
    wrapper.settings_dict["OPTIONS"]["application_name"] = "second"
    assert fetch(wrapper, "SHOW application_name") == "second"
