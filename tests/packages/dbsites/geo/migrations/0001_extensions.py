from __future__ import annotations

from django.contrib.postgres.operations import CITextExtension, CreateExtension, HStoreExtension
from django.db import migrations

from tests.packages.dbsites.common import WANTED


class Migration(migrations.Migration):
    atomic = WANTED.get("atomic", True)
    initial = True
    dependencies = []
    operations = [
        CreateExtension("postgis"),
        CreateExtension("postgis_raster"),
        HStoreExtension(),
        CITextExtension(),
    ]
