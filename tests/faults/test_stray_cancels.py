"""A cancel request never hits somebody else's statement."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import MakeWrapper
from tests.support.deadlines import Borrowers

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("return_at", ["request", "transaction"])
@pytest.mark.parametrize("way", ["libpq 17", "before libpq 17"])
def test_no_statement_of_anybody_else_is_interrupted(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, return_at: str, way: str
) -> None:
    if way == "libpq 17" and not psycopg.capabilities.has_cancel_safe():
        pytest.skip("libpq is older than 17")
    if way == "before libpq 17":
        monkeypatch.setattr(psycopg.Connection, "cancel_safe", _as_before)
    pool = {"max_size": 2, "return_at": return_at}
    borrowers = Borrowers(lambda: make_wrapper(pool=pool, alias="stray"))
    borrowers.run()
    assert not borrowers.wrong
    assert borrowers.seen["canceled"] > 20
    assert borrowers.seen["done"] > 20


def _as_before(connection: psycopg.Connection[Any], *, timeout: float) -> None:
    connection.cancel()
