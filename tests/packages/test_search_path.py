"""The search_path, set by hand or by django-pgschemas: one tenant's never reaches another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.dbsites import TENANTS, Site, ask_as_tenants, new_database
from tests.support.queries import connect

MISSING = "django-pgschemas isn't installed: make test-packages"
RETURN_AT = pytest.mark.parametrize("return_at", ["request", "transaction"])

MAKE_TENANTS = """
from tests.packages.dbsites.notes.models import Note
from tests.packages.dbsites.pgschemas.models import Domain, Tenant
for letter in "abc":
    tenant = Tenant(schema_name=f"tenant_{letter}")
    tenant.save(verbosity=0)
    Domain.objects.create(domain=f"{letter}.test", tenant=tenant)
    with tenant:
        Note.objects.create(text=f"of {letter}")
print("null")
"""


@pytest.fixture(scope="module")
def database(django_db_setup: None) -> Iterator[dict[str, Any]]:
    with new_database("search_path") as database:
        with connect(database) as server:
            for tenant in TENANTS:
                server.execute(f"CREATE SCHEMA tenant_{tenant}")
                server.execute(
                    f"CREATE TABLE tenant_{tenant}.notes_note AS"
                    f" SELECT 1::bigint AS id, 'of {tenant}'::text AS text"
                )
                server.execute(f"ALTER TABLE tenant_{tenant}.notes_note ADD PRIMARY KEY (id)")
        yield database


@RETURN_AT
@pytest.mark.parametrize("by", ["by_statement", "by_execute_wrapper"])
def test_a_request_sees_its_tenant_alone(database: dict[str, Any], by: str, return_at: str) -> None:
    site = Site(name="search_path", database=database, wanted={"by": by})
    with site.serve(threads=8, pool={"max_size": 3, "return_at": return_at}) as url:
        assert ask_as_tenants(url, 60) == []


def test_a_receiver_sets_it_for_each_session(database: dict[str, Any]) -> None:
    """Those that are new, and those that were reset since."""
    site = Site(name="search_path", database=database)
    seen = site.run(
        """
import json
from django.db import connection
from django.db.backends.signals import connection_created
def set_search_path(connection, **kwargs):
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO tenant_a")
def ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None
ask("SELECT 1")
connection_created.connect(set_search_path)  # after the first session was opened
seen = [ask("SHOW search_path")]
connection.close()
ask("SET search_path TO tenant_b")
connection.close()
seen += [ask("SHOW search_path"), connection.pool.statistics().resets]
connection.pool.drain()
connection.close()
print(json.dumps([*seen, ask("SHOW search_path")]))
""",
        pool={"max_size": 1},
    )
    assert seen == [["tenant_a"], ["tenant_a"], 1, ["tenant_a"]]


@pytest.fixture(scope="module")
def pgschemas_database(django_db_setup: None) -> Iterator[dict[str, Any]]:
    pytest.importorskip("django_pgschemas", reason=MISSING)
    with new_database("pgschemas") as database:
        site = Site(name="pgschemas", database=database)
        site.manage("migrateschema", "-s", "public", "-v0")
        site.run(MAKE_TENANTS)
        yield database


@RETURN_AT
def test_pgschemas_shows_a_request_its_tenant_alone(
    pgschemas_database: dict[str, Any], return_at: str
) -> None:
    wanted = {"limit_set_calls": return_at == "transaction"}
    site = Site(name="pgschemas", database=pgschemas_database, wanted=wanted)
    with site.serve(threads=8, pool={"max_size": 3, "return_at": return_at}) as url:
        assert ask_as_tenants(url, 60) == []


def test_pgschemas_outside_of_requests(pgschemas_database: dict[str, Any]) -> None:
    """A session that was returned is another one, for all that the engine remembers."""
    site = Site(name="pgschemas", database=pgschemas_database, wanted={"limit_set_calls": True})
    seen = site.run(
        """
import json
from django.db import close_old_connections
from django_pgschemas.schema import Schema, activate
from tests.packages.dbsites.notes.models import Note
activate(Schema.create("tenant_a"))
seen = [note.text for note in Note.objects.all()]
close_old_connections()
print(json.dumps(seen + [note.text for note in Note.objects.all()]))
"""
    )
    assert seen == ["of a", "of a"]
