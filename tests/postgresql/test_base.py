"""The engine's names, and what packages see of them.

All the doors: `base.py`, `introspection.py`, `postgresql/introspection.py`, `postgis/introspection.py`,
`postgresql/postgis/base.py` and `postgresql/postgis/introspection.py`.
"""

from __future__ import annotations

from importlib import import_module

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base as stock
from django.db.backends.postgresql.introspection import DatabaseIntrospection
from django.db.utils import load_backend

from django_pooled_pg.wrapper import PooledDatabaseMixin
from tests.conftest import MakeWrapper
from tests.support.queries import fetch

NAMES = ["django_pooled_pg", "django_pooled_pg.postgresql"]
POSTGIS_NAMES = ["django_pooled_pg.postgis", "django_pooled_pg.postgresql.postgis"]


def test_both_names_load_one_engine() -> None:
    short, long = (load_backend(name).DatabaseWrapper for name in NAMES)
    assert short is long
    assert long.__bases__ == (PooledDatabaseMixin, stock.DatabaseWrapper)
    # Some look at the class.
    assert long.__module__ == "django_pooled_pg.postgresql.base"


def test_both_names_of_postgis_load_one_engine() -> None:
    try:
        short, long = (load_backend(name).DatabaseWrapper for name in POSTGIS_NAMES)
    except ImproperlyConfigured as error:
        pytest.skip(f"Django's GIS needs libraries that aren't here: {error}")
    assert short is long


@pytest.mark.parametrize("name", NAMES)
def test_packages_that_build_on_it_find_its_introspection(name: str) -> None:
    assert import_module(f"{name}.introspection").DatabaseIntrospection is DatabaseIntrospection


def test_what_packages_look_at_is_in_the_names() -> None:
    assert "postgresql" in NAMES[1]
    assert NAMES[1].split(".")[-1] == "postgresql"
    assert "postgresql" in POSTGIS_NAMES[1]
    assert POSTGIS_NAMES[1].split(".")[-1] == "postgis"


def test_what_it_calls_itself_is_as_djangos(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    assert wrapper.vendor == stock.DatabaseWrapper.vendor == "postgresql"
    assert wrapper.display_name == stock.DatabaseWrapper.display_name == "PostgreSQL"
    for part in ("ops", "features", "creation", "introspection"):
        ours = type(getattr(wrapper, part))
        assert ours is getattr(stock.DatabaseWrapper, f"{part}_class")
    assert fetch(wrapper, "SELECT 1") == 1
