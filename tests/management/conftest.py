"""Fixtures for commands: the runtime folder is that of the monitoring tests."""

from __future__ import annotations

from pathlib import Path

from tests.monitoring.conftest import folder
from tests.monitoring.members import DATABASES, member
from tests.support.processes import run_script

__all__ = ["folder", "opens_nothing"]


def opens_nothing(folder: Path, *command: str) -> None:
    """Run a command beside a process with pools; it must open no pool, connection or socket."""
    with member(folder):
        run_script(
            f"""
from io import StringIO
from django.core.management import call_command
from django_pooled_pg.pooling import registry
call_command(*{command!r}, stdout=StringIO())
assert not [pool for pool in registry.pools() if pool.statistics().connects]
assert connection.connection is None
assert not [name for name in os.listdir(settings.POOLED_PG_RUNTIME_DIR)
            if name.startswith(f"{{os.getpid()}}-")]
""",
            DATABASES,
            INSTALLED_APPS=["django_pooled_pg"],
            POOLED_PG_RUNTIME_DIR=str(folder),
        )
