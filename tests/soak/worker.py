"""What a worker does: one piece of work after another, each with its account."""

from __future__ import annotations

import itertools
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

from django.core.signals import request_finished, request_started
from django.db import (
    InternalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from django_pooled_pg import without_connection
from tests.soak import child
from tests.soak.interrupts import Interrupted, Interruptible
from tests.soak.kept import KINDS, Kept
from tests.soak.session import SPOILERS, look, tags, write
from tests.soak.site import MAX_SIZE, TIMEOUT

if TYPE_CHECKING:
    from tests.soak.rounds import Soak


class Mishap(Exception):
    """What goes wrong in an application."""


class Worker(threading.Thread):
    """Does one piece of work after the other, until time is up or it dies."""

    # The methods, and how often they are chosen.
    TASKS = {
        "write": 40,
        "write_without_transaction": 10,
        "fail": 20,
        "read": 10,
        "leave_cursor_open": 5,
        "spoil": 20,
        "leave_transaction_open": 5,
        "keep": 10,
        "use_kept": 10,
        "lose_wrapper": 1,
        "close_pool": 0.5,
        "fork": 1,
        "hog": 0.05,
        "die": 2,
    }
    # An interrupt would leave a child, or others without a connection, or isn't needed any more.
    NOT_INTERRUPTED = frozenset(["fork", "hog", "die"])

    def __init__(self, soak: Soak, number: int) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.soak = soak
        self.account = soak.account
        self.dice = random.Random(f"{soak.seed}-{number}")
        self.rows: Iterator[str] = (f"{number}-{n}" for n in itertools.count())
        self.left_open: list[Any] = []
        self.kept = Kept()
        self.interruptible: Interruptible | None = None

    def run(self) -> None:
        self.interruptible = Interruptible()
        while not self.soak.over.is_set():
            (task,) = self.dice.choices(list(self.TASKS), list(self.TASKS.values()))
            self.do(task)
            if task == "die":
                if connection.connection is not None:
                    self.account.events.append("died holding")
                return

    def do(self, task: str) -> None:
        """Do a piece of work, as a request or on its own; unless it dies, it tidies up."""
        in_request = self.dice.random() < 0.5
        if in_request:
            request_started.send(sender=Worker)
        work = getattr(self, task)
        if task in self.NOT_INTERRUPTED or self.interruptible is None:
            outcome = self.attempt(work)
        else:
            closes = self.dice.random() < 0.5

            def attempt() -> str:
                outcome = self.attempt(work)
                if closes:
                    connection.close()
                return outcome

            outcome = self.interruptible.run(attempt)
        self.account.events += [task, outcome]
        if task == "die":
            return
        if in_request:
            request_finished.send(sender=Worker)
        # Nothing closes the connection of a request that left an atomic block open.
        connection.close()
        if connection.in_atomic_block:
            # Interrupted as it entered or left the block, which Django can't mend.
            del connections["default"]

    def attempt(self, work: Callable[[], None]) -> str:
        """Return what came of it."""
        try:
            look()
            work()
        except Mishap:
            return "mishap"
        except Exception as ex:
            if was_interrupted(ex):
                return "interrupted"
            if outcome := child.outcome_of(ex):
                return outcome
            self.account.wrong.append(f"{work.__name__}: {traceback.format_exc()}")
            return "wrong"
        return "done"

    def new_row(self) -> str:
        row = next(self.rows)
        self.account.tried.append(row)
        return row

    def in_transaction(self, work: Callable[[], object]) -> None:
        """A transaction that writes a row; what must become of the row is noted, where it's known."""
        row = self.new_row()
        committing = False
        try:
            with transaction.atomic():
                write(row)
                work()
                committing = True
            self.account.present.append(row)
        finally:
            if not committing:
                self.account.absent.append(row)

    # Pieces of work

    def write(self) -> None:
        def work() -> None:
            if self.dice.random() < 0.3:
                row = self.new_row()
                self.account.absent.append(row)
                with suppress(Mishap), transaction.atomic():
                    write(row)
                    raise Mishap
                if transaction.get_rollback():
                    # The savepoint's rollback was lost: without a word, Django dooms the block.
                    raise Mishap
            self.pause()

        self.in_transaction(work)

    def write_without_transaction(self) -> None:
        row = self.new_row()
        write(row)
        self.account.present.append(row)

    def fail(self) -> None:
        def work() -> None:
            self.pause()
            raise Mishap

        self.in_transaction(work)

    def read(self) -> None:
        list(tags()[:20])
        with without_connection():
            self.pause()
        list(tags()[:20])

    def leave_cursor_open(self) -> None:
        """A server-side cursor, which is closed when somebody else has the session."""
        self.left_open.clear()
        rows = tags().iterator(chunk_size=1)
        next(rows, None)
        self.left_open.append(rows)

    def spoil(self) -> None:
        with connection.cursor() as cursor:
            for spoiler in self.dice.sample(SPOILERS, self.dice.randint(1, 3)):
                # What one of them did may forbid the next one.
                with suppress(ProgrammingError, InternalError):
                    cursor.execute(spoiler)

    def leave_transaction_open(self) -> None:
        row = self.new_row()
        self.account.absent.append(row)
        if self.dice.random() < 0.5:
            transaction.set_autocommit(False)
            write(row)
        else:
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
                write(row)

    def keep(self) -> None:
        row = self.new_row()
        self.account.absent.append(row)
        kind = self.dice.choice(KINDS)
        self.account.events.append(f"keep {kind.__name__}")
        with connection.wrap_database_errors:
            kind(self.kept, row)

    def use_kept(self) -> None:
        self.in_transaction(self.kept.use)

    def lose_wrapper(self) -> None:
        connections.create_connection("default").ensure_connection()
        self.account.events.append("lost")

    def close_pool(self) -> None:
        self.in_transaction(connection.close_pool)

    def hog(self) -> None:
        """Hold all there are, for longer than others wait."""
        connection.close()
        with ExitStack() as stack:
            for _ in range(MAX_SIZE):
                other = stack.enter_context(closing(connections.create_connection("default")))
                other.ensure_connection()
            self.soak.over.wait(TIMEOUT * 1.2)

    def die(self) -> None:
        row = self.new_row()
        self.account.absent.append(row)
        if self.dice.random() < 0.5:
            transaction.set_autocommit(False)
        else:
            transaction.atomic().__enter__()
        write(row)
        if self.dice.random() < 0.5:
            self.spoil()

    def fork(self) -> None:
        kind = self.dice.choice(["leaves", "leaves in atomic", "writes", "asks in atomic"])
        self.account.events.append(f"child {kind}")
        if kind == "leaves":
            self.in_child(lambda: None)
        elif kind == "leaves in atomic":
            self.in_transaction(lambda: self.in_child(lambda: None))
        elif kind == "asks in atomic":
            self.in_transaction(lambda: self.in_child(child.asks_in_atomic))
        else:
            row = self.new_row()
            if self.in_child(lambda: child.writes(row)) == child.DONE:
                self.account.present.append(row)

    def in_child(self, work: Callable[[], None]) -> int:
        code = child.run_in_child(work)
        self.account.events.append(child.OUTCOMES.get(code, "wrong"))
        if code not in child.OUTCOMES:
            self.account.wrong.append(f"a child ended with {code}")
        return code

    def pause(self) -> None:
        # Not by waiting for `over`: an interrupt there may leave the lock of an Event locked.
        time.sleep(self.dice.expovariate(200))


def was_interrupted(error: BaseException | None) -> bool:
    """Tell whether it came of an interrupt, as an error while what was begun is undone."""
    while error is not None:
        if isinstance(error, Interrupted):
            return True
        error = error.__cause__ or error.__context__
    return False
