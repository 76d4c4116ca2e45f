"""psycopg's objects that code may leave open, and keep: they must be useless later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import psycopg
from django.db import connection

from tests.soak.session import SPOILERS, Wrong

Raw = psycopg.Connection[Any]


def raw() -> Raw:
    """Return psycopg's connection, as code gets at it."""
    connection.ensure_connection()
    found: Raw = connection.connection
    return found


class Kept:
    """What one thread has kept. All that it began to write with it must be gone."""

    def __init__(self) -> None:
        # Each tries to do something with what was kept.
        self._uses: list[Callable[[], object]] = []

    def use(self) -> None:
        """Use what was kept; raises `Wrong` if that can be done."""
        while self._uses:
            use = self._uses.pop()
            try:
                use()
            except (psycopg.InterfaceError, psycopg.OperationalError):
                continue
            raise Wrong(f"what was kept can be used: {use}")

    def connection(self, row: str) -> None:
        kept = raw()
        self._uses += [
            lambda: kept.execute("ROLLBACK"),
            lambda: kept.cursor(),
            lambda: psycopg.RawCursor(kept).execute("SET soak.mark = 'kept'"),
            lambda: kept.commit(),
            lambda: setattr(kept, "autocommit", False),
            lambda: kept.pgconn.exec_(b"ROLLBACK"),
        ]

    def cursor(self, row: str) -> None:
        cursor = raw().cursor()
        cursor.execute("SELECT 1")
        self._uses.append(lambda: cursor.execute("ROLLBACK"))

    def transaction(self, row: str) -> None:
        kept = raw()
        block = kept.transaction()
        opened = block.__enter__()
        insert(kept, row)

        def leave() -> None:
            block.__exit__(None, None, None)
            if opened.status == opened.Status.FAILED:
                raise psycopg.InterfaceError  # psycopg's: the session is gone, nothing was done

        self._uses.append(leave)

    def suspended(self, row: str) -> None:
        """A generator that is in a transaction, and goes on later."""
        generator = in_transaction(raw(), row)
        next(generator)

        def go_on() -> None:
            # It ends in silence where the session is gone. If it committed, its row is there.
            next(generator, None)
            raise psycopg.InterfaceError

        self._uses.append(go_on)

    def pipeline(self, row: str) -> None:
        kept = raw()
        opened = kept.pipeline()
        opened.__enter__()

        def leave() -> None:
            with suppress(AttributeError):  # psycopg's: of a pipeline that was ended
                opened.__exit__(None, None, None)
                return
            raise psycopg.InterfaceError

        self._uses.append(leave)
        kept.execute("SELECT 1")

    def notifies(self, row: str) -> None:
        kept = raw()
        kept.execute("LISTEN soak")
        kept.execute("NOTIFY soak")
        generator = kept.notifies()
        next(generator)
        self._uses.append(lambda: kept.execute("UNLISTEN *"))
        # Those that had arrived together with the first it still has.
        self._uses.append(lambda: list(islice(generator, 1000)))

    def cursor_of_psycopgs_own(self, row: str) -> None:
        for spoiler in SPOILERS:
            if spoiler.startswith("SET"):
                with suppress(psycopg.ProgrammingError, psycopg.InternalError):
                    psycopg.RawCursor(raw()).execute(spoiler)


KINDS = [
    Kept.connection,
    Kept.cursor,
    Kept.transaction,
    Kept.suspended,
    Kept.pipeline,
    Kept.notifies,
    Kept.cursor_of_psycopgs_own,
]


def insert(kept: Raw, row: str) -> None:
    kept.execute("INSERT INTO library_tag (name) VALUES (%s)", [row])


def in_transaction(kept: Raw, row: str) -> Iterator[None]:
    with kept.transaction():
        insert(kept, row)
        yield
