"""django-postgres-extra on our engine: upserts, and hstore, whose extension it creates itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testproject.database import from_url
from tests.support import postgis
from tests.support.dbsites import Site, new_database

pytest.importorskip("psqlextra", reason="django-postgres-extra isn't installed: make test-packages")


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, Any]]:
    # hstore: not the embedded server.
    with postgis.server() as url:
        if url is None:
            pytest.skip(postgis.MISSING)
        with new_database("shop", from_url(url)) as database:
            yield database


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_upserts_and_hstore_in_each_session(database: dict[str, Any], return_at: str) -> None:
    site = Site(name="shop", database=database)
    seen = site.run(
        """
import json, threading
import psycopg
from concurrent.futures import ThreadPoolExecutor
from django.core.management import call_command
from django.db import connection
from tests.packages.dbsites.shop.models import Product
call_command("migrate", verbosity=0)
# It registers hstore on the session that made it, not, for want of one, in all of psycopg.
assert psycopg.adapters.types.get("hstore") is None
Product.objects.all().delete()
connection.close()
barrier = threading.Barrier(3, timeout=30)
def upsert(number):
    connection.ensure_connection()
    barrier.wait()
    product = Product.objects.upsert_and_get(
        # Its own title: those who insert at once would break that constraint, not the target's.
        conflict_target=["name"], fields={"name": "tea", "title": {"en": f"Tea {number}"}}
    )
    connection.close()
    return product.pk, product.title
with ThreadPoolExecutor(3) as executor:
    products = list(executor.map(upsert, range(6)))
connects = connection.pool.statistics().connects
print(json.dumps([len({pk for pk, _ in products}), [title for _, title in products], connects]))
""",
        pool={"max_size": 3, "return_at": return_at},
    )
    *right, connects = seen
    assert right == [1, [{"en": f"Tea {number}"} for number in range(6)]]
    assert connects <= 6  # no more than 3, and as many again for those that didn't know hstore
