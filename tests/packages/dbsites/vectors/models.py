from __future__ import annotations

from django.db import models
from pgvector.django import VectorField


class Page(models.Model):
    embedding = VectorField(dimensions=3)

    def __str__(self) -> str:
        return str(self.pk)
