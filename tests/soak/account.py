"""Keeps account of one round, as the workers know it; judges nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

SETTLES = 10.0  # seconds from the end of the work to its accounts


class Account:
    """What happened in one round; a list's `append` is safe in any thread, and can't be parted."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.wrong: list[str] = []
        self.kills = 0
        self.interrupts = 0
        # All rows that anybody began to write.
        self.tried: list[str] = []
        # Those of which it is known what must have become; of the others a COMMIT's answer was
        # lost, or they were interrupted.
        self.present: list[str] = []
        self.absent: list[str] = []

    @property
    def happened(self) -> Counter[str]:
        return Counter(self.events)


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SETTLES
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
