from __future__ import annotations

from typing import Any

from django.contrib.gis.db import models
from django.contrib.postgres.fields import HStoreField
from django.db import migrations

from tests.packages.dbsites.common import WANTED
from tests.packages.dbsites.geo import places


def write(apps: Any, schema_editor: Any) -> None:
    model = apps.get_model("geo", "Place")
    places.write(model)
    assert not places.read(model), places.read(model)


class Migration(migrations.Migration):
    atomic = WANTED.get("atomic", True)
    dependencies = [("geo", "0001_extensions")]
    operations = [
        migrations.CreateModel(
            name="Place",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=20)),
                ("point", models.PointField(srid=4326)),
                ("globe", models.PointField(geography=True, srid=4326)),
                ("raster", models.RasterField(srid=4326)),
                ("tags", HStoreField()),
            ],
        ),
        migrations.RunPython(write),
    ]
