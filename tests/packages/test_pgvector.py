"""pgvector: its field, and its types registered for raw SQL by a receiver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.dbsites import Site, new_database
from tests.support.queries import connect

pytest.importorskip("pgvector", reason="pgvector isn't installed: make test-packages")


@pytest.fixture(scope="module")
def database(django_db_setup: None) -> Iterator[dict[str, Any]]:
    with new_database("vectors") as database:
        with connect(database) as server:
            asked = "SELECT FROM pg_available_extensions WHERE name = 'vector'"
            if not server.execute(asked).rowcount:
                pytest.skip("the server has no pgvector")
        yield database


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_the_field_and_the_types(database: dict[str, Any], return_at: str) -> None:
    site = Site(name="vectors", database=database)
    seen = site.run(
        """
import json, threading
from concurrent.futures import ThreadPoolExecutor
from django.core.management import call_command
from django.db import connection
from django.db.backends.signals import connection_created
from pgvector import Vector
from pgvector.django import L2Distance
from pgvector.psycopg import register_vector
from psycopg.types import TypeInfo
from tests.packages.dbsites.vectors.models import Page

def register(connection, **kwargs):
    if TypeInfo.fetch(connection.connection, "vector"):  # not before the first migration
        register_vector(connection.connection)
connection_created.connect(register)

call_command("migrate", verbosity=0)
Page.objects.all().delete()
Page.objects.bulk_create(Page(embedding=[n, n, n]) for n in range(5))
connection.close()
barrier = threading.Barrier(3, timeout=30)
def near(number):
    connection.ensure_connection()
    barrier.wait()
    nearest = Page.objects.order_by(L2Distance("embedding", [3, 3, 3.2])).first()
    with connection.cursor() as cursor:
        cursor.execute("SET hnsw.ef_search = 100")  # the session is reset after that
        cursor.execute("SELECT %s <-> embedding, embedding FROM vectors_page WHERE id = %s",
                       [Vector([3, 3, 4]), nearest.pk])
        distance, vector = cursor.fetchone()
    connection.close()
    return [list(nearest.embedding), distance, type(vector).__name__]
with ThreadPoolExecutor(3) as executor:
    print(json.dumps(list(executor.map(near, range(9)))))
""",
        pool={"max_size": 3, "return_at": return_at},
    )
    assert seen == [[[3, 3, 3], 1, "Vector"]] * 9
