"""Runs the contestants' processes from the parent, in turns."""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..cluster import ROOT
from .contestants import Contestant, Settings, database
from .figures import Outcome
from .servers import neutral

START_TIMEOUT = 60.0  # seconds
JOB_TIMEOUT = 120.0


class ChildError(Exception):
    """A contestant can't do what was asked; the message says why."""


class Child:
    """One contestant in a process of its own, started and ready for jobs."""

    def __init__(
        self,
        contestant: Contestant,
        address: Settings,
        size: int,
        *,
        wrapper: Iterable[str] = (),
        stderr: int | None = subprocess.DEVNULL,
    ) -> None:
        if missing := contestant.missing():
            raise ChildError(missing)
        self._address = address
        self.application_name = f"bench-{contestant.key}"[:63]
        self._process = subprocess.Popen(
            [*wrapper, sys.executable, "-P", "-m", "testproject.bench.child"],
            env=environment(),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self.stderr = self._process.stderr
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        spec = {
            "kind": contestant.kind,
            "database": database(contestant, address, size, self.application_name),
            "size": size,
            "app": contestant.app,
            "gevent": contestant.gevent,
            "tree": contestant.tree,
        }
        try:
            self._ask(spec, START_TIMEOUT)
        except ChildError:
            self.close()
            raise

    def ask(self, job: str, **params: Any) -> dict[str, float]:
        """Do a job in the child and return its figures."""
        figures: dict[str, float] = self._ask({"job": job, **params}, JOB_TIMEOUT)["figures"]
        return figures

    def close(self) -> None:
        """Let the child end: it notices by itself that nothing is left to do."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def _ask(self, said: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(said) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self._process.kill()
            raise ChildError(f"no answer after {timeout:.0f} s") from None
        if not line:
            raise ChildError(f"its process ended with status {self._process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        if error := answer.get("error"):
            raise ChildError(neutral(error, self._address))
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")


def environment() -> dict[str, str]:
    """Return the environment for processes that have to find this project."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}


def by_turns(
    outcomes: dict[str, Outcome],
    rounds: int,
    turn: Callable[[str], dict[str, float]],
) -> None:
    """Let each contestant without an error take its turn, in a different order each round.

    A contestant that fails is out, with its error.
    """
    dice = random.Random(rounds)
    for _ in range(rounds):
        order = [key for key, outcome in outcomes.items() if not outcome.error]
        dice.shuffle(order)
        for key in order:
            try:
                outcomes[key].add(turn(key))
            except ChildError as ex:
                outcomes[key].error = str(ex)
