"""Sites behind a real PgBouncer, with the settings that its page in the documentation gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry
from tests.support.pgbouncer import (
    ALIAS,
    INI,
    NULL,
    MakeBouncer,
    MakeSite,
    PgBouncer,
)


@pytest.fixture(scope="module")
def bouncer(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    """As the page has it, but with 2 server connections."""
    database = registry.snapshot(connection.settings_dict)
    folder = tmp_path_factory.mktemp("pgbouncer")
    with PgBouncer(folder, database, INI, default_pool_size=2) as bouncer:
        yield bouncer


@pytest.fixture
def make_bouncer(tmp_path: Path, database: dict[str, Any]) -> Iterator[MakeBouncer]:
    """Start one of the test's own."""
    made: list[PgBouncer] = []

    def make(**changes: object) -> PgBouncer:
        made.append(PgBouncer(tmp_path, database, INI, **changes))
        made[-1].start()
        return made[-1]

    yield make
    for bouncer in made:
        bouncer.kill()


@pytest.fixture
def behind(make_wrapper: MakeSite) -> MakeSite:
    """Make a wrapper with the site's settings; `OPTIONS` are added to its own."""

    def make(
        bouncer: PgBouncer, site: dict[str, Any] = NULL, alias: str = "", **changes: Any
    ) -> DatabaseWrapper:
        settings = site["DATABASES"]["default"]
        options = {**settings["OPTIONS"], **changes.pop("OPTIONS", {})}
        return make_wrapper(
            alias=alias, **{**settings, **bouncer.settings, **changes, "OPTIONS": options}
        )

    return make


@pytest.fixture
def orm(behind: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSite]:
    """Make the alias that the ORM of each thread goes through; returns this thread's wrapper."""

    def make(*args: Any, **kwargs: Any) -> DatabaseWrapper:
        wrapper = behind(*args, alias=ALIAS, **kwargs)
        monkeypatch.setitem(connections.databases, ALIAS, wrapper.settings_dict)
        connections[ALIAS] = wrapper
        return wrapper

    yield make
    if hasattr(connections._connections, ALIAS):
        del connections[ALIAS]
