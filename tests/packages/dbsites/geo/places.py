"""A place, written and read back: right only where the session knows all its types."""

from __future__ import annotations

from typing import Any

from django.contrib.gis.gdal import Driver, GDALRaster
from django.contrib.gis.geos import Point
from django.db import connection
from django.db.models import Model

# Not left to the first threads that read a raster, of which one may find it half done.
Driver.ensure_registered()

BAND = b"\0\1\2\3"
RASTER = {"width": 2, "height": 2, "srid": 4326, "datatype": 1, "bands": [{"data": BAND}]}


def write(model: type[Model]) -> None:
    model._default_manager.create(
        name="Ulm",
        point=Point(1, 2),
        globe=Point(3, 4),
        raster=GDALRaster(RASTER),
        tags={"river": "Danube"},
    )


def read(model: type[Model]) -> list[Any]:
    """Return what is wrong: nothing."""
    place: Any = model._default_manager.get()
    (streamed,) = model._default_manager.iterator()
    found: Any = model._default_manager.get(point__dwithin=(Point(1, 2), 0.1), globe=Point(3, 4))
    with connection.cursor() as cursor:
        cursor.execute("SELECT ARRAY['a', 'b']::citext[]")
        names = cursor.fetchone()[0]
    pairs = [
        (place.point.tuple, (1, 2)),
        (streamed.globe.tuple, (3, 4)),
        (bytes(place.raster.bands[0].data(as_memoryview=True)), BAND),
        (found.tags, {"river": "Danube"}),
        (names, ["a", "b"]),
    ]
    return [repr(pair) for pair in pairs if pair[0] != pair[1]]
