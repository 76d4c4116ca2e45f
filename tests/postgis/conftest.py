"""A site with geometries, migrated, on a server with PostGIS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from testproject.database import from_url
from tests.support import postgis
from tests.support.dbsites import Site, new_database

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def postgis_server() -> Iterator[dict[str, Any]]:
    """Settings of a server with PostGIS."""
    try:
        import django.contrib.gis.db.backends.postgis.base  # noqa: F401
    except ImproperlyConfigured as error:
        pytest.skip(f"Django's GIS needs libraries that aren't here: {error}")
    with postgis.server() as url:
        if url is None:
            pytest.skip(postgis.MISSING)
        yield from_url(url)


@pytest.fixture
def make_site(postgis_server: dict[str, Any]) -> Iterator[MakeSite]:
    """Make a site on an empty database: `make_site(wanted=...)`."""
    with ExitStack() as stack:

        def make(**wanted: Any) -> Site:
            database = stack.enter_context(new_database("geo", postgis_server))
            return Site(name="geo", database=database, wanted=wanted)

        yield make


@pytest.fixture(scope="session")
def site(postgis_server: dict[str, Any]) -> Iterator[Site]:
    """A site that is migrated, with a place in it."""
    with new_database("places", postgis_server) as database:
        site = Site(name="geo", database=database)
        site.manage("migrate", "-v0")
        yield site
