"""Owns what tasks do beside the threads: one block after the other, and many of them canceled."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import django.db
import psycopg

from django_pooled_pg import DeadlineExceeded, PoolExhausted, aio, deadline
from django_pooled_pg.pooling.tasks.errand import in_loop
from tests.soak.child import HANGS
from tests.soak.session import LOOK, SPOILERS, Wrong, require_clean
from tests.soak.worker import Mishap

if TYPE_CHECKING:
    from tests.soak.rounds import Soak

# What may come of a piece of work; the first that fits.
OUTCOMES: list[tuple[str, tuple[type[BaseException], ...]]] = [
    ("mishap", (Mishap,)),
    ("failed", (psycopg.errors.InFailedSqlTransaction,)),
    ("canceled", (asyncio.CancelledError, TimeoutError)),
    ("too late", (DeadlineExceeded,)),
    ("exhausted", (PoolExhausted,)),
    ("refused", (django.db.OperationalError, django.db.InterfaceError)),
    ("wrong", (psycopg.errors.QueryCanceled,)),  # it was meant for somebody else
    ("broken", (psycopg.OperationalError, psycopg.InterfaceError)),
    ("wrong", (Exception,)),
]


class Loop(threading.Thread):
    """Runs tasks in one event loop after the other; leaves some loops in the midst of it."""

    # The methods, and how often they are chosen.
    TASKS = {
        "write": 50,
        "spoil": 20,
        "stream": 5,
        "copy_out": 5,
        "copy_in": 5,
        "pipeline": 5,
        "share": 5,
        "leave": 1,
    }

    def __init__(self, soak: Soak, number: int, tasks: int) -> None:
        super().__init__(name=f"loop-{number}", daemon=True)
        self.account = soak.account
        self.dice = random.Random(f"{soak.seed}-loop-{number}")
        self.rows: Iterator[str] = (f"loop-{number}-{n}" for n in itertools.count())
        self._over = soak.over
        self._tasks = tasks

    def run(self) -> None:
        while not self._over.is_set():
            if self.dice.random() < 0.8:
                asyncio.run(self._work(self.dice.uniform(0.1, 5)))
                continue
            loop = asyncio.new_event_loop()
            loop.set_exception_handler(lambda loop, context: None)  # tasks are destroyed
            loop.create_task(self._work(HANGS)).add_done_callback(id)
            loop.run_until_complete(asyncio.sleep(self.dice.uniform(0, 0.5)))
            loop.close()
            if self.dice.random() < 0.5:
                gc.collect()
            self.account.events.append("loop left")

    async def _work(self, seconds: float) -> None:
        running: set[asyncio.Task[None]] = set()
        until = monotonic() + seconds
        while not self._over.is_set() and monotonic() < until:
            while len(running) < self._tasks:
                (name,) = self.dice.choices(list(self.TASKS), list(self.TASKS.values()))
                running.add(asyncio.create_task(self._do(name)))
            _, running = await asyncio.wait(running, timeout=self.dice.uniform(0, 0.02))
            if running and self.dice.random() < 0.3:
                victim = self.dice.choice(sorted(running, key=id))
                for _ in range(self.dice.choice([1, 1, 2])):
                    victim.cancel()
        # The end of the loop cancels the others.

    async def _do(self, name: str) -> None:
        outcome, loop = "done", asyncio.get_running_loop()
        limits = [HANGS, HANGS, self.dice.expovariate(20)]
        try:
            async with (
                asyncio.timeout(self.dice.choice(limits)),
                deadline(self.dice.choice(limits)),
            ):
                await getattr(self, name)(aio.connection(atomic=self.dice.random() < 0.5))
        except BaseException as ex:
            if not in_loop(loop):
                raise  # it was collected
            outcome = next(outcome for outcome, errors in OUTCOMES if isinstance(ex, errors))
            if outcome == "wrong":
                self.account.wrong.append(f"{name}: {traceback.format_exc()}")
        self.account.events += [f"task {name}", f"task {outcome}"]

    async def write(self, block: Any) -> None:
        async def insert(connection: psycopg.AsyncConnection[Any], row: str) -> None:
            await connection.execute("INSERT INTO library_tag (name) VALUES (%s)", [row])

        await self._add(block, insert)

    async def copy_in(self, block: Any) -> None:
        async def insert(connection: psycopg.AsyncConnection[Any], row: str) -> None:
            sql = "COPY library_tag (name) FROM STDIN"
            async with connection.cursor() as cursor, cursor.copy(sql) as copying:
                await copying.write_row([row])

        await self._add(block, insert)

    async def _add(self, block: Any, insert: Callable[..., Awaitable[None]]) -> None:
        row = next(self.rows)
        self.account.tried.append(row)
        committing = False
        try:
            async with block as connection:
                await look(connection)
                async with connection.transaction():
                    await insert(connection, row)
                    await asyncio.sleep(self.dice.expovariate(200))
                    if self.dice.random() < 0.3:
                        raise Mishap
                    committing = True
            self.account.present.append(row)
        finally:
            if not committing:
                self.account.absent.append(row)

    async def spoil(self, block: Any) -> None:
        async with block as connection:
            await look(connection)
            for spoiler in self.dice.sample(SPOILERS, self.dice.randint(1, 3)):
                with suppress(psycopg.ProgrammingError, psycopg.InternalError):
                    await connection.execute(spoiler)

    async def stream(self, block: Any) -> None:
        async with block as connection:
            expected = itertools.count(1)
            async for (number,) in connection.cursor().stream("SELECT generate_series(1, 1000)"):
                if number != next(expected):
                    raise Wrong("rows are missing")

    async def copy_out(self, block: Any) -> None:
        sql = "COPY (SELECT generate_series(1, 1000)) TO STDOUT"
        async with block as connection, connection.cursor() as cursor, cursor.copy(sql) as copying:
            numbers = [int(number) async for (number,) in copying.rows()]
        if numbers != list(range(1, 1001)):
            raise Wrong("rows are missing")

    async def pipeline(self, block: Any) -> None:
        async with block as connection, connection.pipeline():
            cursors = [await connection.execute("SELECT %s::int", [n]) for n in range(5)]
            numbers = [(await cursor.fetchone())[0] for cursor in cursors]
        if numbers != list(range(5)):
            raise Wrong("results are mixed up")

    async def share(self, block: Any) -> None:
        async with block as connection:
            sql = "SELECT %s::int, pg_sleep(0.001) IS NULL"
            cursors = await asyncio.gather(*(connection.execute(sql, [n]) for n in range(5)))
            if [(await cursor.fetchone())[0] for cursor in cursors] != list(range(5)):
                raise Wrong("results are mixed up")

    async def leave(self, block: Any) -> None:
        """Leave another task with a statement that would go on."""
        async with block as connection:
            statement = connection.execute("SELECT pg_sleep(100)")
            _ = asyncio.gather(statement, return_exceptions=True)
            await asyncio.sleep(self.dice.expovariate(200))


async def look(connection: psycopg.AsyncConnection[Any]) -> None:
    """Look whether the session is as good as new."""
    await (cursor := connection.cursor()).execute(LOOK)
    require_clean(await cursor.fetchone())
