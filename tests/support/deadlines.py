"""Borrowers whose statements are canceled at random moments."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

from django_pooled_pg import DeadlineExceeded, deadline
from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import fetch

THREADS = 8
ROUNDS = 250


class Borrowers:
    """Threads that run short statements, some with deadlines that come while they run.

    `make` makes the wrapper of each.
    """

    def __init__(self, make: Callable[[], DatabaseWrapper]) -> None:
        self._wrappers = [make() for _ in range(THREADS)]
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
