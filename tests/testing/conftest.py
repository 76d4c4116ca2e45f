from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.support.shop import RunPytest, running_pytest


@pytest.fixture(scope="package")
def run_pytest(django_db_setup: None, django_db_blocker: Any) -> Iterator[RunPytest]:
    """Run pytest in the site of `tests/testing/site`."""
    with django_db_blocker.unblock(), running_pytest(connection.settings_dict) as run:
        yield run
