"""Random programs do the same on Django's own engine and on this one.

`PROGRAMS=5000` runs that many, with different ones each time.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from django.core.signals import request_finished, request_started
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper as DjangosWrapper
from hypothesis import HealthCheck, given, settings
from psycopg.errors import ObjectNotInPrerequisiteState
from psycopg.pq import TransactionStatus

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.pool import Pool

from .programs import DROP, EXAMPLES, NOTHING_LEFT, SCHEMA, Program, Run, programs

MakeWrapper = Callable[..., DatabaseWrapper]

# What NOTHING_LEFT finds in a session that nobody has used.
CLEAN: list[Any] = []
PROGRAMS = int(os.environ.get("PROGRAMS", "0"))


class Contestant(NamedTuple):
    """A way to run programs: on wrappers of a class, inside a request or not."""

    wrapper_class: type[BaseDatabaseWrapper]
    alias: str
    settings: dict[str, Any]
    in_request: bool = True
    # Whether a connection goes back with the transaction.
    early: bool = False

    def make(self) -> BaseDatabaseWrapper:
        return self.wrapper_class(self.settings, self.alias)


@pytest.fixture
def admin(database: dict[str, Any], make_wrapper: MakeWrapper) -> Iterator[BaseDatabaseWrapper]:
    """Makes the tables, and looks into them."""
    admin = make_wrapper(pool=False)
    admin.ensure_connection()
    admin.connection.execute(SCHEMA)
    CLEAN[:] = admin.connection.execute(NOTHING_LEFT).fetchall()
    yield admin
    admin.connection.execute(DROP)


@pytest.fixture
def contestants(
    admin: DatabaseWrapper, make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Contestant]]:
    """Django's own, and ours: each way to return connections."""
    # It logs each robust hook that fails, as programs have them do on purpose.
    monkeypatch.setattr(logging.getLogger("django.db.backends.base"), "disabled", True)
    # One connection: nobody may need a second one, or leave the first to nobody.
    pool = {"max_size": 1, "timeout": 5}
    at_request, at_transaction, outside = (
        make_wrapper(pool={**pool, "return_at": return_at})
        for return_at in ("request", "transaction", "request")
    )
    contestants = [
        Contestant(DjangosWrapper, "djangos", {**admin.settings_dict, "OPTIONS": {}}),
        Contestant(DatabaseWrapper, at_request.alias, at_request.settings_dict),
        Contestant(DatabaseWrapper, at_transaction.alias, at_transaction.settings_dict, early=True),
        Contestant(
            DatabaseWrapper, outside.alias, outside.settings_dict, in_request=False, early=True
        ),
    ]
    for contestant in contestants:
        monkeypatch.setitem(connections.settings, contestant.alias, contestant.settings)
    yield contestants
    for contestant in contestants:
        del connections[contestant.alias]


def run(contestant: Contestant, program: Program, admin: DatabaseWrapper) -> list[Any]:
    """Run the program from an empty table; return its trace, and what is in the table then."""
    admin.connection.execute("DELETE FROM programs_row")
    wrapper = connections[contestant.alias] = contestant.make()
    pool = wrapper.pool if isinstance(wrapper, DatabaseWrapper) else None
    borrows = pool.statistics().borrows if pool is not None else 0
    wrong: list[str] = []

    def check(run: Run) -> None:
        if pool is None:
            return
        if not contestant.early:
            if not run.request_over and pool.statistics().borrows > borrows + run.may_borrow:
                wrong.append(f"borrowed again without a close, after {run.trace[-1]}")
        elif not run.may_keep and wrapper.autocommit and not wrapper.in_atomic_block:
            if pool.statistics().in_use:
                gc.collect()  # an error's traceback may have a cursor, and refer to itself
            if pool.statistics().in_use:
                wrong.append(f"kept for nothing, after {run.trace[-1]}")

    run = Run(wrapper, check)
    signal = request_started if contestant.in_request else request_finished
    signal.send(sender=None)
    run.perform(program)
    run.perform((("get_autocommit",),))
    if contestant.in_request:
        request_finished.send(sender=None)
    wrapper.close()
    run.trace.append(len(wrapper.run_on_commit))
    assert wrong == []
    if pool is not None:
        try:
            look_for_leftovers(contestant, run, pool)
        except BaseException:
            pool.close()  # so that the next program fails for reasons of its own
            raise
    run.drop_all()
    rows = admin.connection.execute("SELECT * FROM programs_row ORDER BY id").fetchall()
    return [*run.trace, rows]


def look_for_leftovers(contestant: Contestant, run: Run, pool: Pool) -> None:
    """The next borrower meets nothing of the program."""
    assert pool.statistics().in_use == 0
    successor = contestant.make()
    successor.ensure_connection()
    connection = successor.connection
    try:
        assert connection.execute(NOTHING_LEFT).fetchall() == CLEAN
        with pytest.raises(ObjectNotInPrerequisiteState):
            connection.execute("SELECT lastval()")
        assert connection.autocommit
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert successor.get_autocommit()
        assert successor.run_on_commit == []
        # Its cursors go when the connection is another's: he must not notice.
        successor.set_autocommit(False)
        connection.execute("CREATE TEMP TABLE of_successor ON COMMIT DROP AS SELECT 42 AS n")
        run.drop_all()
        assert connection.execute("SELECT n FROM of_successor").fetchall() == [(42,)]
        assert pool.statistics().in_use == 1
        successor.rollback()
        successor.set_autocommit(True)
    finally:
        successor.close()
    assert pool.statistics().in_use == 0


def compare(contestants: list[Contestant], program: Program, admin: DatabaseWrapper) -> None:
    expected = run(contestants[0], program, admin)
    for contestant in contestants[1:]:
        assert run(contestant, program, admin) == expected


# Of psycopg: programs drop cursors, too.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_do_the_same(
    contestants: list[Contestant], admin: DatabaseWrapper, name: str
) -> None:
    compare(contestants, EXAMPLES[name], admin)


@pytest.mark.timeout(120 + PROGRAMS)
def test_random_programs_do_the_same(contestants: list[Contestant], admin: DatabaseWrapper) -> None:
    @settings(
        max_examples=PROGRAMS or 150,
        derandomize=not PROGRAMS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def compare_one(program: Program) -> None:
        compare(contestants, program, admin)

    compare_one()
