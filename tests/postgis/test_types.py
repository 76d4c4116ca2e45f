"""The types of PostGIS and other extensions, which each new session has to learn, once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.dbsites import Site
from tests.support.queries import connect

READ = """
import json, os, threading
from concurrent.futures import ThreadPoolExecutor
from django.db import connection
from tests.packages.dbsites.geo import places
from tests.packages.dbsites.geo.models import Place

def pid():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

# The threads, and what they know of Django's connections, stay.
executor = ThreadPoolExecutor(4)

def in_sessions(number, read=lambda: places.read(Place)):
    '''Read in so many sessions at once; return their process ids, and what is wrong.'''
    barrier = threading.Barrier(number, timeout=30)
    def read_one(_):
        connection.ensure_connection()
        barrier.wait()
        try:
            return pid(), read()
        finally:
            connection.close()
    results = list(executor.map(read_one, range(number)))
    return {pid for pid, _ in results}, [wrong for _, found in results for wrong in found]
"""


def test_each_session_knows_them_after_whatever_came_between(site: Site) -> None:
    found = site.run(
        READ
        + """
out = {}
before, out["new"] = in_sessions(3)
with connection.cursor() as cursor:
    cursor.execute("SET statement_timeout = '50s'")
connection.close()
after, out["reset"] = in_sessions(3)
out["same"] = before == after
out["resets"] = connection.pool.statistics().resets
read, write = os.pipe()
if not os.fork():
    executor = ThreadPoolExecutor(4)
    os.write(write, json.dumps(in_sessions(2)[1]).encode())
    os._exit(0)
out["in a child"] = json.loads(os.read(read, 10000))
# As after a restart of the server.
with connection.cursor() as cursor:
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
connection.close_pool()
anew, out["reconnected"] = in_sessions(3)
out["anew"] = not anew & before
print(json.dumps(out))
""",
        pool={"min_size": 3, "max_size": 3},
    )
    assert found == {
        "new": [],
        "reset": [],
        "same": True,
        "resets": 1,
        "in a child": [],
        "reconnected": [],
        "anew": True,
    }


@pytest.mark.parametrize("return_at", ["request", "transaction"])
def test_they_are_looked_up_once_and_a_borrow_asks_nothing(site: Site, return_at: str) -> None:
    found = site.run(
        READ
        + """
from tests.packages.dbsites.geo.tracing import statements
in_sessions(1)
first = statements()
in_sessions(3)
others = statements()
for _ in range(5):
    Place.objects.get()
    connection.close()
print(json.dumps([first, others, statements()]))
""",
        pool={
            "max_size": 3,
            "return_at": return_at,
            "connection_class": "tests.packages.dbsites.geo.tracing.Traced",
        },
    )
    first, others, then = found
    # PostGIS: geometry, geography, raster. django.contrib.postgres: hstore, citext.
    assert sum("FROM pg_type" in statement for statement in first) == 5
    assert sum("FROM pg_type" in statement for statement in others) == 0
    assert len(then) == 5
    assert all('FROM "geo_place"' in statement for statement in then)


@pytest.mark.parametrize(("there", "atomic"), [(False, True), (False, False), (True, False)])
def test_migrations_may_use_what_those_before_them_created(
    make_site: Any, there: bool, atomic: bool
) -> None:
    """The second migration writes and reads; sessions from before the first know no type."""
    site = make_site(atomic=atomic)
    if there:
        with connect(site.database) as server:
            for extension in ("postgis", "postgis_raster", "hstore", "citext"):
                server.execute(f"CREATE EXTENSION {extension}")
    wrong = site.run(
        READ
        + """
from django.core.management import call_command
in_sessions(4, read=list)
call_command("migrate", verbosity=0)
# While this thread still has the connection of the migrations, and after that.
print(json.dumps([in_sessions(3)[1], places.read(Place), connection.close(), in_sessions(4)[1]]))
""",
        pool={"max_size": 4, "return_at": "transaction"},
    )
    assert wrong == [[], [], None, []]
