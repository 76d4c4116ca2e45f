"""django-tenants, which sets the search_path of a session and remembers that it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.dbsites import Site, ask_as_tenants, new_database, sessions
from tests.support.queries import connect

pytest.importorskip("django_tenants", reason="django-tenants isn't installed: make test-packages")

MAKE_TENANTS = """
from django_tenants.utils import schema_context
from tests.packages.dbsites.notes.models import Note
from tests.packages.dbsites.tenants.models import Client, Domain
for letter in "abc":
    tenant = Client(schema_name=f"tenant_{letter}")
    tenant.save(verbosity=0)
    Domain.objects.create(domain=f"{letter}.test", tenant=tenant, is_primary=True)
    with schema_context(tenant.schema_name):
        Note.objects.create(text=f"of {letter}")
print("null")
"""


@pytest.fixture(scope="module")
def database(django_db_setup: None) -> Iterator[dict[str, Any]]:
    with new_database("tenants") as database:
        site = Site(name="tenants", database=database)
        site.manage("migrate_schemas", "--shared", "--run-syncdb", "-v0")
        site.run(MAKE_TENANTS)
        yield database


@pytest.mark.parametrize(
    ("return_at", "limit_set_calls"), [("request", False), ("transaction", True)]
)
def test_a_request_sees_its_tenant_alone(
    database: dict[str, Any], return_at: str, limit_set_calls: bool
) -> None:
    site = Site(name="tenants", database=database, wanted={"limit_set_calls": limit_set_calls})
    with (
        site.serve(threads=8, pool={"max_size": 3, "return_at": return_at}) as url,
        connect(database) as server,
    ):
        assert ask_as_tenants(url, 90) == []
        assert len(sessions(server, database["NAME"])) <= 3
        (process,) = json.loads(site.manage("poolstats", "--json"))["processes"]
        (pool,) = process["pools"]
        # Pinned by the SET: one borrow and, after the response, one reset for each request.
        assert 90 <= pool["borrows"] <= 100
        assert pool["resets"] <= pool["borrows"]
        assert pool["exhausted"] == 0


def test_outside_of_requests(database: dict[str, Any]) -> None:
    """A session that was returned is another one, for all that the engine remembers."""
    site = Site(name="tenants", database=database, wanted={"limit_set_calls": True})
    seen = site.run(
        """
import json, os
from django.db import close_old_connections, connection
from django_pooled_pg.pooling import registry
from tests.packages.dbsites.notes.models import Note
def seen():
    return [note.text for note in Note.objects.all()]
out = {}
for letter in "abc":
    connection.set_schema(f"tenant_{letter}")
    out[letter] = seen()
close_old_connections()
out["after its end"] = seen()
connection.close()
out["after close()"] = seen()
read, write = os.pipe()
if not os.fork():
    os.write(write, json.dumps(seen()).encode())
    os._exit(0)
out["in a child"] = json.loads(os.read(read, 1000))
out["pools"] = len(registry.pools())
print(json.dumps(out))
""",
        pool={"max_size": 2},
    )
    assert seen == {
        "a": ["of a"],
        "b": ["of b"],
        "c": ["of c"],
        "after its end": ["of c"],
        "after close()": ["of c"],
        "in a child": ["of c"],
        "pools": 1,
    }


def test_threads_that_share_few_connections(database: dict[str, Any]) -> None:
    site = Site(name="tenants", database=database)
    seen = site.run(
        """
import json
from concurrent.futures import ThreadPoolExecutor
from django.db import connection
from django_pooled_pg import returning_connections
from tests.packages.dbsites.notes.models import Note
@returning_connections()
def work(number):
    letter = "abc"[number % 3]
    connection.set_schema(f"tenant_{letter}")
    return {letter} == {note.text[-1] for _ in range(3) for note in Note.objects.all()}
with ThreadPoolExecutor(10) as executor:
    print(json.dumps(list(executor.map(work, range(100)))))
""",
        pool={"max_size": 2},
    )
    assert seen == [True] * 100
