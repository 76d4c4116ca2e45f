"""What `no_connection_while_calling()` notices of common clients."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.support.shop import running_pytest, wrong

for package in ("aiohttp", "boto3", "httpx", "requests", "responses", "respx", "urllib3"):
    pytest.importorskip(package, reason=f"{package} isn't installed: make test-packages")


@pytest.mark.django_db
def test_calls_and_mocks_of_calls_are_noticed() -> None:
    with running_pytest(connection.settings_dict) as run:
        outcomes, out = run("cases_clients.py")
    assert len(outcomes) == 19, out
    assert wrong(outcomes) == {}, out
