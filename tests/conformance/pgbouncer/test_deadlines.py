"""Deadlines behind PgBouncer: what it forwards cancels nobody else's statements."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from django_pooled_pg import DeadlineExceeded, deadline
from tests.support.deadlines import Borrowers
from tests.support.pgbouncer import BOTH, MakeSite, PgBouncer
from tests.support.queries import fetch


@BOTH
def test_a_statement_is_canceled_at_its_deadline(
    bouncer: PgBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    wrapper = behind(bouncer, site)
    began = monotonic()
    with pytest.raises(DeadlineExceeded), deadline(0.3):
        fetch(wrapper, "SELECT pg_sleep(30)::text")
    assert monotonic() - began < 5
    assert fetch(wrapper, "SELECT 1") == 1


@BOTH
def test_a_statement_that_waits_for_a_session_of_pgbouncers_ends_at_its_deadline(
    bouncer: PgBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    busy = [behind(bouncer, site) for _ in range(2)]
    for wrapper in busy:
        wrapper.set_autocommit(False)
        fetch(wrapper, "SELECT 1")
    waiting = behind(bouncer, site)
    began = monotonic()
    with pytest.raises(DeadlineExceeded), deadline(0.5):
        fetch(waiting, "SELECT 1")
    assert monotonic() - began < 8
    waiting.close()
    for wrapper in busy:
        wrapper.close()
    assert fetch(waiting, "SELECT 1") == 1


@BOTH
def test_no_statement_of_anybody_else_is_interrupted(
    bouncer: PgBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    borrowers = Borrowers(lambda: behind(bouncer, site, alias="stray"))
    borrowers.run()
    assert not borrowers.wrong
    assert borrowers.seen["canceled"] > 20
