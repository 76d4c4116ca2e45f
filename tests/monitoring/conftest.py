"""Fixtures for monitoring: a runtime folder of its own, and this process answering there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_pooled_pg.monitoring import endpoint
from tests.monitoring.members import short_folder, sockets


@pytest.fixture
def folder(settings: Any) -> Iterator[Path]:
    """The runtime folder: nobody but the test's own processes is in it."""
    endpoint.stop()  # it may run for other tests, in another folder
    with short_folder() as path:
        settings.POOLED_PG_RUNTIME_DIR = str(path)
        yield path
        endpoint.stop()


@pytest.fixture
def running(folder: Path) -> Path:
    """This process answers; returns its socket."""
    endpoint.ensure_running()
    (path,) = sockets(folder)
    return path
