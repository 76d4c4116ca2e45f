"""Random programs for a database connection, and how to run them step by step.

A program is a tuple of steps, and a step is a tuple: the name of a method of `Run`, and its
arguments. Blocks have steps of their own, as their last argument. A failure shows the program, so
that it can be run again: `Run(wrapper).perform(program)`.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import Error, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from hypothesis import strategies as st

Step = tuple[Any, ...]
Program = tuple[Step, ...]


class Row(models.Model):
    """A row of the table that programs work on; `prepare` makes it."""

    id = models.IntegerField(primary_key=True)
    # A row that refers to none fails when the transaction is committed.
    parent = models.ForeignKey("self", models.DO_NOTHING, null=True)

    class Meta:
        app_label = "programs"
        db_table = "programs_row"
        managed = False

    def __str__(self) -> str:
        return f"{self.id}, child of {self.parent_id}"


SCHEMA = """
DROP TABLE IF EXISTS programs_row;
DROP SEQUENCE IF EXISTS programs_numbers;
CREATE TABLE programs_row (
    id int PRIMARY KEY,
    parent_id int REFERENCES programs_row DEFERRABLE INITIALLY DEFERRED
);
CREATE SEQUENCE programs_numbers
"""
DROP = "DROP TABLE programs_row; DROP SEQUENCE programs_numbers"

# Nobody may find anything of an earlier borrower in a session.
NOTHING_LEFT = """
SELECT
    current_setting('statement_timeout'),
    current_setting('work_mem'),
    current_setting('search_path'),
    current_setting('default_transaction_isolation'),
    current_setting('transaction_isolation'),
    current_user,
    to_regclass('left_over'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
    (SELECT count(*) FROM pg_cursors WHERE name <> ''),
    pg_current_xact_id_if_assigned()
"""

# What leaves something in the session, or may: its connection stays after it.
CHANGES = [
    "SET statement_timeout = '77s'",
    "RESET statement_timeout",
    "SELECT set_config('work_mem', '7MB', false)",
    "SET search_path TO public",
    "SET ROLE pg_monitor",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "CREATE TEMP TABLE IF NOT EXISTS left_over (n int)",
    "SELECT pg_advisory_lock(4711)",
    "SELECT pg_advisory_unlock_all()",
    "LISTEN news",
    "PREPARE plan AS SELECT 42",
    "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)",
    "SELECT nextval('programs_numbers') > 0",
    "BEGIN",
]
# Fails, or means less, after something else than it does by itself.
LOOKS = [
    "SELECT id FROM programs_row ORDER BY id",
    "SELECT 1/0",
    "INSERT INTO programs_row VALUES (1)",
    "INSERT INTO left_over VALUES (1)",
    "SHOW statement_timeout",
    "SHOW work_mem",
    "SHOW search_path",
    "SELECT current_user",
    "SELECT count(*) FROM left_over",
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "SELECT pg_current_xact_id_if_assigned() IS NULL",
    "SELECT currval('programs_numbers') > 0",
    "EXECUTE plan",
    "FETCH held",
    "SET LOCAL work_mem = '5MB'",
    "SET TRANSACTION READ ONLY",
    "COMMIT",
    "ROLLBACK",
]


class Intended(Exception):
    """Raised by a program on purpose."""


class Run:
    """One run of a program on one wrapper, which has to be among `connections`.

    `check` is called after each step. It must not raise, for the program handles all errors.
    """

    def __init__(self, wrapper: BaseDatabaseWrapper, check: Callable[[Run], None]) -> None:
        self.wrapper = wrapper
        # What the steps returned or raised, and the state after each.
        self.trace: list[Any] = []
        # How often the connection was closed, and how often a new one may be borrowed.
        self.closes = 0
        self.may_borrow = 1
        # Whether the program does something for which its connection stays outside transactions.
        self.may_keep = False
        # Whether it did what Django does at the end of a request.
        self.request_over = False
        self._check = check
        self._ensured = False
        # Each with the number of closes when it was made.
        self._cursors: list[tuple[int, Any]] = []
        self._readers: list[tuple[int, Any]] = []
        self._savepoints: list[str] = []

    def perform(self, steps: Program, *, handle: bool = True) -> None:
        """Run the steps; `handle`: go on after those that fail."""
        for name, *args in steps:
            try:
                result = getattr(self, name)(*args)
            except Exception as ex:
                result = self._name(ex)
                if not handle:
                    self._note(name, result)
                    raise
            self._note(name, result)

    def _note(self, name: str, result: Any) -> None:
        wrapper = self.wrapper
        in_atomic = wrapper.in_atomic_block
        self.trace.append(
            (
                name,
                result,
                in_atomic,
                in_atomic and wrapper.needs_rollback,
                len(wrapper.savepoint_ids) if in_atomic else 0,
                # After a close inside a block they are dropped by the next connect.
                0 if wrapper.closed_in_transaction else len(wrapper.run_on_commit),
            )
        )
        self._check(self)

    def _name(self, ex: Exception) -> str:
        # Of a connection that was closed inside an atomic block Django keeps what is left, and the
        # driver complains; with a pool, Django's own too, there is nothing left.
        if self._is_closed() and isinstance(ex, Error):
            ex.add_note("closed")  # for the blocks that it leaves
        return "closed" if hasattr(ex, "__notes__") else type(ex).__name__

    def _is_closed(self) -> bool:
        return self.wrapper.closed_in_transaction and self.wrapper.in_atomic_block

    def drop_all(self) -> None:
        """Forget all that the program kept, without closing it."""
        self._cursors.clear()
        self._readers.clear()

    # Queries

    def execute(self, sql: str) -> Any:
        self._may_change(sql)
        with self.wrapper.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else cursor.rowcount

    def _may_change(self, sql: str) -> None:
        if sql in CHANGES:
            self.may_keep = True

    def execute_unclosed(self, sql: str) -> Any:
        self._may_change(sql)
        cursor = self.wrapper.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else cursor.rowcount

    def insert(self, number: int, parent: int | None = None) -> Any:
        with self.wrapper.cursor() as cursor:
            cursor.execute("INSERT INTO programs_row VALUES (%s, %s)", [number, parent])
            return cursor.rowcount

    def insert_many(self, *numbers: int) -> Any:
        with self.wrapper.cursor() as cursor:
            cursor.executemany("INSERT INTO programs_row VALUES (%s)", [(n,) for n in numbers])
            return cursor.rowcount

    def call(self) -> Any:
        with self.wrapper.cursor() as cursor:
            cursor.callproc("abs", [-42])
            return cursor.fetchone()

    def copy_in(self, number: int) -> None:
        with (
            self.wrapper.cursor() as cursor,
            cursor.copy("COPY programs_row (id) FROM STDIN") as copy,
        ):
            copy.write_row((number,))

    def copy_out(self) -> Any:
        with (
            self.wrapper.cursor() as cursor,
            cursor.copy("COPY (SELECT id FROM programs_row ORDER BY id) TO STDOUT") as copy,
        ):
            return [bytes(data) for data in copy]

    def two_cursors(self) -> Any:
        with self.wrapper.cursor() as outer:
            outer.execute("SELECT generate_series(1, 3)")
            with self.wrapper.cursor() as inner:
                inner.execute("SELECT 42")
                result = inner.fetchone()
            return [outer.fetchone(), result, outer.fetchall()]

    def temporary_connection(self) -> Any:
        self.may_borrow += self.wrapper.connection is None
        with self.wrapper.temporary_connection() as cursor:
            cursor.execute("SELECT 42")
            return cursor.fetchone()

    def check_constraints(self) -> None:
        self.wrapper.check_constraints()

    def schema(self) -> None:
        self.may_keep = True  # migrations rely on what those before them left in the session
        with self.wrapper.schema_editor() as editor:
            editor.execute("COMMENT ON TABLE programs_row IS 'Of programs'")

    # By the ORM

    @property
    def _rows(self) -> Any:
        return Row.objects.using(self.wrapper.alias).order_by("id")

    def rows(self) -> Any:
        return [str(row) for row in self._rows]

    def create(self, number: int, parent: int | None = None) -> None:
        self._rows.create(id=number, parent_id=parent)

    def bulk_create(self, *numbers: int) -> None:
        self._rows.bulk_create([Row(id=number) for number in numbers])

    def get_or_create(self, number: int) -> Any:
        return self._rows.get_or_create(id=number)[1]

    def delete(self, number: int) -> Any:
        return self._rows.filter(id=number).delete()[0]

    def for_update(self) -> Any:
        return [row.id for row in self._rows.select_for_update()]

    # Cursors that stay open

    def keep_cursor(self, sql: str) -> None:
        self._may_change(sql)
        self._keep(self._cursors, self.wrapper.cursor()).execute(sql)

    def keep_chunked(self) -> Any:
        cursor = self._keep(self._cursors, self.wrapper.chunked_cursor())
        cursor.execute("SELECT generate_series(1, 300)")
        return cursor.fetchone()

    def keep_reader(self) -> Any:
        return next(self._keep(self._readers, self._rows.iterator(chunk_size=1))).id

    def _keep(self, where: list[tuple[int, Any]], what: Any) -> Any:
        self.may_keep = True
        where.append((self.closes, what))
        return what

    def use_cursor(self, sql: str) -> Any:
        self._may_change(sql)
        return self._use(self._cursors, lambda cursor: cursor.execute(sql) and None)

    def fetch_cursor(self) -> Any:
        return self._use(self._cursors, lambda cursor: cursor.fetchone())

    def close_cursor(self) -> Any:
        return self._use(self._cursors, lambda cursor: cursor.close(), last=True)

    def drop_cursor(self) -> None:
        del self._cursors[-1:]

    def collect_cursor(self) -> None:
        cycle: list[Any] = [self._cursors[-1:]]
        del self._cursors[-1:]
        cycle.append(cycle)
        del cycle
        gc.collect(0)

    def next_of_reader(self) -> Any:
        return self._use(self._readers, lambda rows: next(rows).id)

    def close_reader(self) -> Any:
        return self._use(self._readers, lambda rows: rows.close(), last=True)

    def _use(
        self, where: list[tuple[int, Any]], use: Callable[[Any], Any], *, last: bool = False
    ) -> Any:
        if not where:
            return None
        closes, what = where.pop() if last else where[-1]
        if closes == self.closes:
            return use(what)
        # Of a connection that is closed, or another's: what it says to that isn't compared.
        with suppress(Exception):
            use(what)
        return "of a closed connection"

    # Cursors of the server

    def read_all(self) -> Any:
        return [row.id for row in self._rows.iterator(chunk_size=1)]

    def read_some(self) -> Any:
        for row in self._rows.iterator(chunk_size=1):
            return row.id

    def chunked(self) -> Any:
        with self.wrapper.chunked_cursor() as cursor:
            cursor.execute("SELECT generate_series(1, 300)")
            return len(cursor.fetchmany(10)), len(cursor.fetchall())

    # Transactions

    def atomic(self, savepoint: bool, durable: bool, end: str, steps: Program) -> None:
        """`end`: "raise" at it, "handle" all errors before, or "fail" with the first."""
        with transaction.atomic(self.wrapper.alias, savepoint=savepoint, durable=durable):
            self.perform(steps, handle=end != "fail")
            if end == "raise":
                raise Intended

    def savepoint(self) -> Any:
        sid = self.wrapper.savepoint()
        if sid is not None:
            self._savepoints.append(sid)
        return sid is not None

    def savepoint_rollback(self) -> None:
        if self._savepoints:
            self.wrapper.savepoint_rollback(self._savepoints[-1])

    def savepoint_commit(self) -> None:
        if self._savepoints:
            self.wrapper.savepoint_commit(self._savepoints.pop())

    def set_autocommit(self, autocommit: bool) -> None:
        self.wrapper.set_autocommit(autocommit)

    def get_autocommit(self) -> Any:
        if self._is_closed():
            return None  # as above
        return self.wrapper.get_autocommit()

    def commit(self) -> None:
        self.wrapper.commit()

    def rollback(self) -> None:
        self.wrapper.rollback()

    def set_rollback(self, rollback: bool) -> None:
        self.wrapper.set_rollback(rollback)

    def get_rollback(self) -> Any:
        return self.wrapper.get_rollback()

    # On commit

    def on_commit(self, robust: bool, steps: Program, fails: bool) -> None:
        def hook() -> None:
            self.trace.append("hook")
            self.perform(steps)
            if fails:
                raise Intended

        transaction.on_commit(hook, using=self.wrapper.alias, robust=robust)

    # The connection

    def close(self) -> None:
        self._closing()
        self.wrapper.close()

    def close_if_unusable_or_obsolete(self) -> None:
        self._closing()
        self.request_over = True
        self.wrapper.close_if_unusable_or_obsolete()

    def _closing(self) -> None:
        self.closes += 1
        self.may_borrow += 1
        self.may_keep = self._ensured = False
        self._savepoints.clear()

    def ensure(self) -> None:
        if self._is_closed():
            return  # as above
        self.wrapper.ensure_connection()
        self._ensured = self.may_keep = True

    def direct(self, sql: str) -> Any:
        """Use psycopg's connection, as `ensure_connection()` allows until it is closed."""
        if self._ensured:
            self._may_change(sql)
            cursor = self.wrapper.connection.execute(sql)
            return cursor.fetchall() if cursor.description else cursor.rowcount

    # Looking at queries

    def debug(self, steps: Program) -> Any:
        wrapper = self.wrapper
        before, wrapper.force_debug_cursor = wrapper.force_debug_cursor, True
        already = len(wrapper.queries_log)
        begun = wrapper.connection is not None and not wrapper.autocommit
        try:
            self.perform(steps)
        finally:
            wrapper.force_debug_cursor = before
        queries = []
        for query in list(wrapper.queries_log)[already:]:
            # To end what didn't begin does nothing, and is told when there is a connection.
            if query["sql"] not in ("COMMIT", "ROLLBACK") or begun:
                queries.append(named(query["sql"]))
            if query["sql"] in ("BEGIN", "COMMIT", "ROLLBACK"):
                begun = query["sql"] == "BEGIN"
        return queries

    def wrapped(self, steps: Program) -> Any:
        seen = []

        def look(run: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
            seen.append((named(sql), params, context["connection"] is self.wrapper))
            return run(sql, params, many, context)

        with self.wrapper.execute_wrapper(look):
            self.perform(steps)
        return seen


def named(sql: Any) -> str:
    """Give savepoints names that are the same in each run."""
    return re.sub(r"\bs\d+_x(\d+)", r"s_\1", str(sql))


# Making programs

_ids = st.integers(1, 3)


def _steps(*names: str, args: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Step]:
    name = st.sampled_from(names)
    return st.tuples(name) if args is None else st.tuples(name, args)


_sql = st.sampled_from(CHANGES + LOOKS)
_looks = st.sampled_from(LOOKS)

_QUERIES = st.one_of(
    _steps("execute", "execute_unclosed", args=_looks),
    _steps("insert", "create", "get_or_create", "delete", "copy_in", args=_ids),
    # Nobody is 99: the commit fails.
    st.tuples(st.sampled_from(["insert", "create"]), _ids, st.sampled_from([1, 99])),
    st.tuples(st.sampled_from(["insert_many", "bulk_create"]), _ids, _ids),
    _steps(
        *("rows", "for_update", "read_all", "read_some", "chunked", "call", "copy_out"),
        *("two_cursors", "temporary_connection", "check_constraints", "schema"),
    ),
)
_STATE = st.one_of(
    _steps("execute", args=_sql),
    _steps("execute", "execute_unclosed", args=_looks),
)
_KEPT = st.one_of(
    _steps("keep_cursor", args=_sql),
    _steps("use_cursor", args=_sql),
    _steps("keep_chunked", "keep_reader"),
    _steps("fetch_cursor", "next_of_reader"),
    _steps("close_cursor", "drop_cursor", "collect_cursor", "close_reader"),
)
_BY_HAND = st.one_of(
    _steps("savepoint", "savepoint_rollback", "savepoint_commit"),
    _steps("set_autocommit", "set_rollback", args=st.booleans()),
    _steps("commit", "rollback", "get_autocommit", "get_rollback"),
)
_CONNECTION = st.one_of(
    _steps("ensure"),
    _steps("direct", args=_sql),
    _steps("close", "close_if_unusable_or_obsolete"),
)


def programs(depth: int = 3, max_size: int = 7) -> st.SearchStrategy[Program]:
    """Programs with blocks inside of blocks, as many as `depth`."""
    # Each in a map, or one_of() would take all alternatives of all of them for equally likely.
    kinds = [kind.map(tuple) for kind in (_QUERIES, _QUERIES, _STATE, _KEPT, _BY_HAND, _CONNECTION)]
    if depth:
        inner = programs(depth - 1, max_size=4)
        ends = st.sampled_from(["handle", "fail", "raise"])
        atomic = st.tuples(st.just("atomic"), st.booleans(), st.booleans(), ends, inner)
        plain = st.tuples(st.just("atomic"), st.just(True), st.just(False), ends, inner)
        hook = st.tuples(st.just("on_commit"), st.booleans(), inner, st.booleans())
        look = st.tuples(st.sampled_from(["debug", "wrapped"]), inner)
        kinds += [plain, plain, atomic, hook, look]
    return st.lists(st.one_of(kinds), min_size=1, max_size=max_size).map(tuple)


def _block(*steps: Step, savepoint: bool = True, end: str = "handle") -> Step:
    return ("atomic", savepoint, False, end, steps)


def _hook(*steps: Step, robust: bool = False, fails: bool = False) -> Step:
    return ("on_commit", robust, steps, fails)


_QUERY = ("execute", LOOKS[0])
_INSERT = ("execute", "INSERT INTO programs_row VALUES (1)")

# What a connection has to stay for, and what has to be over with it.
EXAMPLES: dict[str, Program] = {
    "ensured": (("ensure",), _QUERY, _block(_QUERY), ("direct", LOOKS[0])),
    "ensured in a block": (_block(("ensure",)), ("direct", LOOKS[0])),
    "ensured before a close": (("ensure",), ("close",), _QUERY, _block(_QUERY)),
    "open cursor": (
        ("keep_cursor", "SHOW work_mem"),
        _block(("insert", 1)),
        ("fetch_cursor",),
        ("use_cursor", LOOKS[0]),
        ("fetch_cursor",),
    ),
    "cursor of a block": (_block(("keep_cursor", LOOKS[0])), ("use_cursor", LOOKS[0])),
    "cursor of the server": (("keep_chunked",), _block(_QUERY), ("fetch_cursor",)),
    "reader": (
        ("insert_many", 1, 2),
        ("keep_reader",),
        _block(("insert", 3)),
        ("next_of_reader",),
        ("close_reader",),
        _QUERY,
    ),
    "cursor of a closed connection": (
        ("keep_cursor", LOOKS[0]),
        ("close",),
        _QUERY,
        ("keep_cursor", LOOKS[0]),
        ("fetch_cursor",),
        ("drop_cursor",),
        ("use_cursor", "INSERT INTO programs_row VALUES (1)"),
        _QUERY,
    ),
    "held cursor of a failed transaction": (
        ("keep_chunked",),
        ("set_autocommit", False),
        ("execute", "SELECT 1/0"),
        ("close_cursor",),
    ),
    "begun by hand": (("execute", "BEGIN"), _INSERT, _QUERY, ("execute", "ROLLBACK"), _QUERY),
    "autocommit off": (
        ("set_autocommit", False),
        _INSERT,
        _block(("insert", 2), _hook(_QUERY)),
        ("rollback",),
        ("insert", 3),
        _block(_hook(_QUERY)),
        ("commit",),
        ("set_autocommit", True),
        _QUERY,
    ),
    "hooks": (
        _block(
            _hook(_QUERY, _block(("insert", 1), _hook(_QUERY))),
            _block(_hook(_QUERY), end="raise"),
            _hook(("create", 1), robust=True, fails=True),
            _hook(("insert", 2), fails=True),
            _hook(_QUERY),
        ),
        _QUERY,
    ),
    "hooks outside": (_hook(_QUERY), _hook(_QUERY, fails=True), _hook(robust=True, fails=True)),
    "hook that closes": (_block(_INSERT, _hook(("close",)), _hook(_QUERY)), _QUERY),
    "closed in a block": (
        _block(_INSERT, ("close",), ("savepoint",), _hook(_QUERY), _QUERY),
        _block(("insert", 2)),
        _QUERY,
    ),
    "closed in a block of a block": (
        _block(_INSERT, _block(("close",), _QUERY, end="fail"), ("set_rollback", False), _QUERY),
        _QUERY,
    ),
    "failed commit": (_block(("insert", 1, 99), _hook(_QUERY)), _QUERY),
    "failed in a block": (
        _block(_INSERT, ("create", 1), _QUERY, ("set_rollback", False), _QUERY),
        _block(_INSERT, _block(("insert", 1), end="fail", savepoint=False), _QUERY),
        _QUERY,
    ),
    "saved by hand": (
        _block(
            _INSERT,
            ("savepoint",),
            ("insert", 1),
            ("savepoint_rollback",),
            ("insert", 2),
            ("savepoint_commit",),
        ),
        _QUERY,
    ),
}
for _change, _look in {
    "SET statement_timeout = '77s'": "SHOW statement_timeout",
    "SELECT set_config('work_mem', '7MB', false)": "SHOW work_mem",
    "SET ROLE pg_monitor": "SELECT current_user",
    "CREATE TEMP TABLE IF NOT EXISTS left_over (n int)": "SELECT count(*) FROM left_over",
    "SELECT pg_advisory_lock(4711)": LOOKS[9],
    "PREPARE plan AS SELECT 42": "EXECUTE plan",
    "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)": "FETCH held",
    "SELECT nextval('programs_numbers') > 0": "SELECT currval('programs_numbers') > 0",
}.items():
    _changed: Step = ("execute", _change)
    EXAMPLES[_change] = (_changed, _block(_QUERY), ("execute", _look))
    EXAMPLES[f"{_change} in a block"] = (_block(_changed), _QUERY, ("execute", _look))
