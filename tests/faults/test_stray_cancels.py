"""A cancel request never hits a statement of somebody else."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import nullcontext
from time import monotonic
from typing import Any

import psycopg
import pytest

from django_pooled_pg import DeadlineExceeded, deadline
from django_pooled_pg.base import DatabaseWrapper
from tests.conftest import MakeWrapper
from tests.support.queries import fetch

pytestmark = pytest.mark.faults

THREADS = 8
ROUNDS = 250


class Borrowers:
    """Threads that run short statements, some with deadlines that come while they run."""

    def __init__(self, make_wrapper: MakeWrapper, pool: dict[str, Any], **settings: Any) -> None:
        self._wrappers = [
            make_wrapper(pool=pool, alias="stray", **settings) for _ in range(THREADS)
        ]
        for wrapper in self._wrappers:
            wrapper.inc_thread_sharing()
        self.seen: Counter[str] = Counter()
        self.wrong: list[BaseException] = []

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._work, args=(wrapper, number))
            for number, wrapper in enumerate(self._wrappers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, wrapper: DatabaseWrapper, number: int) -> None:
        chance = random.Random(number)
        try:
            for _ in range(ROUNDS):
                limited = chance.random() < 0.6
                limit = deadline(chance.uniform(0.0005, 0.004)) if limited else nullcontext()
                try:
                    with limit:
                        fetch(wrapper, "SELECT pg_sleep(%s)::text", [chance.uniform(0, 0.004)])
                    self.seen["done"] += 1
                except DeadlineExceeded as ex:
                    self.seen["canceled" if "was canceled" in str(ex) else "refused"] += 1
                # Without a deadline, at once, on the same session or on another's.
                assert fetch(wrapper, "SELECT %s + 0", [number]) == number
                if chance.random() < 0.5:
                    wrapper.close()
        except BaseException as ex:
            self.wrong.append(ex)
        finally:
            wrapper.close()


@pytest.mark.parametrize("return_at", ["request", "transaction"])
@pytest.mark.parametrize("way", ["libpq 17", "before libpq 17"])
def test_no_statement_of_anybody_else_is_interrupted(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, return_at: str, way: str
) -> None:
    if way == "libpq 17" and not psycopg.capabilities.has_cancel_safe():
        pytest.skip("libpq is older than 17")
    if way == "before libpq 17":
        monkeypatch.setattr(psycopg.Connection, "cancel_safe", _as_before)
    borrowers = Borrowers(make_wrapper, {"max_size": 2, "return_at": return_at})
    borrowers.run()
    assert not borrowers.wrong
    assert borrowers.seen["canceled"] > 20
    assert borrowers.seen["done"] > 20


def _as_before(connection: psycopg.Connection[Any], *, timeout: float) -> None:
    connection.cancel()
