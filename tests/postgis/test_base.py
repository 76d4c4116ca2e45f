from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.wrapper import PooledDatabaseMixin


def test_the_engine_is_the_same_mixin_on_djangos_postgis_engine() -> None:
    try:
        from django.contrib.gis.db.backends.postgis.base import DatabaseWrapper as Stock
    except ImproperlyConfigured as error:
        pytest.skip(f"Django's GIS needs libraries that aren't here: {error}")
    from django_pooled_pg.postgis.base import DatabaseWrapper

    assert DatabaseWrapper.__bases__ == (PooledDatabaseMixin, Stock)
