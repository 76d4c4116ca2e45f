"""django-prometheus's mixin in front of our engine, in the documentation's own lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dbsites import Site, new_database
from tests.support.processes import ROOT

pytest.importorskip(
    "django_prometheus", reason="django-prometheus isn't installed: make test-packages"
)


@pytest.fixture
def database(django_db_setup: None) -> Iterator[dict[str, Any]]:
    with new_database("metrics") as database:
        yield database


def test_its_metrics(database: dict[str, Any], tmp_path: Path) -> None:
    section = (ROOT / "docs" / "packages-database.md").read_text().split("## django-prometheus")[1]
    engine = tmp_path / "books_engine"
    engine.mkdir()
    (engine / "__init__.py").touch()
    (engine / "base.py").write_text(section.split("```python\n")[1].split("```")[0])
    site = Site(name="metrics", database=database, path=tmp_path)
    site.manage("migrate", "-v0")
    figures = site.run(
        """
import json, threading
from django.db import OperationalError, ProgrammingError, connection, connections
from prometheus_client import REGISTRY
from tests.packages.dbsites.notes.models import Note

def count(name, alias="default", **labels):
    labels = {"alias": alias, "vendor": "postgresql", **labels}
    return REGISTRY.get_sample_value(f"django_db_{name}", labels) or 0

connection.ensure_connection()
connection.close()
# A new session is told its time zone, as without a pool.
at_first = count("execute_total")
for _ in range(5):
    list(Note.objects.all())
    connection.close()
with connection.cursor() as cursor:
    cursor.execute("SET statement_timeout = '50s'")
connection.close()
list(Note.objects.iterator())
try:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing")
except ProgrammingError:
    pass
cursor = connection.cursor()
cursor.executemany("INSERT INTO notes_note (text) VALUES (%s)", [["a"], ["b"]])
try:
    connections["nowhere"].ensure_connection()
except OperationalError:
    pass
print(json.dumps([
    count("new_connections_total"),
    count("execute_total") - at_first,
    count("execute_many_total"),
    count("query_duration_seconds_count") - at_first,
    count("errors_total", type="UndefinedColumn"),
    connection.pool.statistics().resets,
    count("new_connection_errors_total"),
    count("new_connection_errors_total", alias="nowhere") >= 1,
]))
""",
        pool={"max_size": 1},
    )
    # Five selects, a SET, one that fails, two inserts; Django makes server-side cursors itself.
    assert figures == [1, 9, 2, 8, 1, 1, 0, True]
