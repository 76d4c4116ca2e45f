from __future__ import annotations

from django.contrib.gis.db import models
from django.contrib.postgres.fields import HStoreField


class Place(models.Model):
    name = models.CharField(max_length=20)
    point = models.PointField()
    globe = models.PointField(geography=True)
    raster = models.RasterField()
    tags = HStoreField()

    def __str__(self) -> str:
        return self.name
