from __future__ import annotations

from django.db import migrations, models
from psqlextra.fields import HStoreField


class Migration(migrations.Migration):
    initial = True
    atomic = False
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=20, unique=True)),
                ("title", HStoreField(uniqueness=["en"])),
            ],
        ),
    ]
