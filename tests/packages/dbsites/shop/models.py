from __future__ import annotations

from django.db import models
from psqlextra.fields import HStoreField
from psqlextra.models import PostgresModel


class Product(PostgresModel):
    name = models.CharField(max_length=20, unique=True)
    title = HStoreField(uniqueness=["en"])

    def __str__(self) -> str:
        return self.name
