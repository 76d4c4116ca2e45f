"""Chooses which of Django's tests run."""

from __future__ import annotations

from pathlib import Path

# What touches connections, cursors, transactions, threads and forks, and takes half a minute.
CHOICE = [
    "asgi",
    "async",
    "backends",
    "basic",
    "db_utils",
    "delete_regress",
    "fixtures_regress",
    "get_or_create",
    "handlers",
    "migrate_signals",
    "multiple_database",
    "postgres_tests",
    "raw_query",
    "requests_tests",
    "select_for_update",
    "servers",
    "test_client",
    "test_runner",
    "test_utils",
    "transaction_hooks",
    "transactions",
]

# As runtests.py: what isn't tests, and what needs another engine.
NOT_RUN = {"gis_tests", "import_error_package", "test_runner_apps"}


def all_apps(source: Path) -> list[str]:
    """Return the folders of Django's tests, by name."""
    folders = (file.parent.name for file in (source / "tests").glob("*/__init__.py"))
    return sorted(set(folders) - NOT_RUN)
