from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from django_pooled_pg.pooling.session.statements import (
    _FUNCTIONS,
    CHANGES,
    NEW_TYPES,
    NOTHING,
    UNKNOWN,
    command_of,
    effect_after,
    effect_of,
    prepares,
)
from tests.support.queries import connect


@pytest.mark.parametrize(
    "sql",
    [
        "SET x = 1",
        "set\n x = 1",
        "  ; SET x = 1",
        "SELECT 1;/* a; b */SET x = 1",
        "-- hello\nRESET ALL",
        "/* tracing */ DISCARD ALL",
        "LISTEN news",
        "UNLISTEN *",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE p",
        "LOAD 'auto_explain'",
        "DO $$ BEGIN END $$",
        "CALL something()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT set_config('a.b', %s, false)",
        'SELECT "set_config"(%s, %s, false)',
        "SELECT * FROM t WHERE pg_try_advisory_lock (id)",
        "SELECT pg_advisory_lock_shared(1)",
        "select NEXTVAL('s')",
        "CREATE TEMPORARY TABLE t (n int)",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "CREATE LOCAL TEMP TABLE t (n int)",
        "SELECT 1 INTO TEMP t",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "(SELECT set_config('a.b', 'c', false))",
        "SELECT dblink_connect('a', 'b')",
        # An identifier that may be any.
        'SELECT U&"\\0066"(1)',
        "SELECT query_to_xml('SELECT set_config(''a.b'', ''c'', false)', true, true, '')",
        "SELECT pg_create_physical_replication_slot('a', true, true)",
        "SELECT pg_replication_origin_session_setup('a')",
        "INSERT INTO t SELECT nextval('s')",
        "SET LOCAL standard_conforming_strings = off",
        # Not known to be harmless.
        "UPSERT INTO t VALUES (1)",
        # The server may read something else than what was read here.
        "SELECT 1 --\0\nFROM t",
        "SELECT '\ufffd'",
        "INSERT INTO t VALUES ('\ufffd')",
        "SELECT 'a",
        'SELECT "a',
        "SELECT $$a$",
        "SELECT E'a\\'",
        "SELECT %(a')s, set_config(%(b')s, 'c', false)",
        "INSERT INTO t VALUES (%(a\n;SET x = 1)s)",
    ],
)
def test_changes(sql: str) -> None:
    assert effect_of(sql) == CHANGES


@pytest.mark.parametrize("name", sorted(_FUNCTIONS))
@pytest.mark.parametrize("statement", ["SELECT {}(1)", "INSERT INTO t SELECT {} (1)"])
def test_functions_change(statement: str, name: str) -> None:
    assert effect_of(statement.format(name)) == CHANGES
    assert command_of(statement.format(name)) == name.upper()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE EXTENSION IF NOT EXISTS hstore",
        "SELECT 1; create  type mood AS ENUM ('sad')",
        "ALTER TYPE mood ADD VALUE 'happy'",
        "SET x = 1; CREATE TYPE t AS (n int)",
    ],
)
def test_new_types(sql: str) -> None:
    assert effect_of(sql) == NEW_TYPES
    assert command_of(sql) != "?"


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT "t"."set", "t"."listen" FROM "t" WHERE "t"."id" = %s',
        'UPDATE "t" SET "a" = %s',
        "INSERT INTO t (a) VALUES (%s) ON CONFLICT (a) DO UPDATE SET b = 1",
        "INSERT INTO t (a) VALUES (%s) ON CONFLICT DO NOTHING",
        "SET LOCAL x = 1",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET CONSTRAINTS ALL DEFERRED",
        "SAVEPOINT x",
        "PREPARE TRANSACTION 'x'",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_unlock(1)",
        "SELECT temp, temporary FROM weather",
        "CREATE TABLE temperature (n int)",
        "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
        "SELECT current_setting('x')",
        "",
        "PREPARE TRANSACTION U&'x'",
        "INSERT INTO temp VALUES (1)",
        "INSERT INTO django_content_type (type) VALUES (%s)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; RETURN 2; END",
        "CREATE RULE r AS ON UPDATE TO t DO ALSO (DELETE FROM u; NOTIFY n)",
        "GRANT EXECUTE ON FUNCTION f TO r",
        "SELECT %(name)s, 100 %(3)",
        # The server's errors, before it does anything.
        "SELECT /* /* */ set_config('a.b', 'c', false)",
    ],
)
def test_leaves_alone(sql: str) -> None:
    assert effect_of(sql) < CHANGES


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        'SELECT "a"."id", COUNT(*) AS "n" FROM "a" WHERE ("a"."id" IN (%s, %s) AND NOT (1 = 2))',
        "select lower (a) from t where a = any(%s)",
        " SELECT 1 -- a; SET x = 1",
        "SELECT 1 /* FOR UPDATE, f(1) */",
        "SELECT count/**/(*) FROM t WHERE a = 'f(1); LISTEN b' AND b IN (%(c)s, %(d)s)",
        'SELECT "for", "temp"."update" FROM "type"',
    ],
)
def test_a_plain_read_leaves_nothing(sql: str) -> None:
    assert effect_of(sql) == NOTHING


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "INSERT INTO a (b) VALUES (1)",
        "UPDATE a SET b = 1",
        "DELETE FROM a",
        "WITH q AS (SELECT 1) SELECT 1",
        "(SELECT 1)",
        "SELECT 1; DELETE FROM a",
        "SELECT a INTO b",
        "SELECT * FROM a FOR UPDATE",
        "SELECT f(1)",
        "SELECT f (1)",
        'SELECT "in"(1)',
        "SELECT my_in(1)",
        "SELECT mine.count(1)",
        "SELECT f/**/(1)",
        "SELECT f --\n(1)",
        "SELECT f" + " " * 200 + "(1)",
    ],
)
def test_a_function_or_a_write_may_leave_something(sql: str) -> None:
    assert effect_of(sql) == UNKNOWN


def test_the_command_for_people() -> None:
    assert command_of("/* tracing */ set x = 1") == "SET"
    assert command_of("SELECT 1, set_config('a.b', 'c', false)") == "SET_CONFIG"
    assert command_of("") == "?"


def test_prepare_is_told_apart() -> None:
    assert prepares("prepare p as select 1")
    assert prepares("DO $$ BEGIN EXECUTE some_text; END $$")
    assert prepares("CALL f()")
    assert not prepares("SET x = 1")


# What leaves something in its session, as seen in the session afterwards: each by itself.
_LEAVES = [
    "SET work_mem = '5MB'",
    "SET SESSION work_mem TO '5MB'",
    "SET a.b = 'c'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET NAMES 'latin1'",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION pg_monitor",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET XML OPTION DOCUMENT",
    "BEGIN; SET work_mem = '5MB'; COMMIT",
    "SET LOCAL work_mem = '4MB'; SET work_mem = '5MB'",
    # None of these words is reserved.
    "SET local.x = 'c'",
    "SET local . x TO 'c'",
    "SET transaction.x = 'c'",
    "SET constraints.x = 'c'",
    "SET session.x = 'c'",
    "PREPARE transaction AS SELECT 1",
    "PREPARE transaction (int) AS SELECT $1",
    # What nested and other comments hid.
    "/* /* */ */ SET work_mem = '5MB'",
    "/* /* ; */ ' */ SET work_mem = '5MB' -- '",
    "/*" + "a" * 3_000 + "*/ SET work_mem = '5MB'",
    "-- a\rSET work_mem = '5MB'",
    "--'\nSET work_mem = '5MB' --'",
    "SELECT '/*'; SET work_mem = '5MB' --*/",
    r"SELECT '\'; SET work_mem = '5MB'; SELECT '\'",
    r"SELECT E'\'' ; SET work_mem = '5MB'; SELECT '\'",
    "SELECT E'a'\n'\\''; SET work_mem = '5MB'; SELECT '\\'",
    "SELECT $a$ $$ $b$ ' $a$; SET work_mem = '5MB' --$$'",
    "SELECT 1 AS a$$; SET work_mem = '5MB'; SELECT 1 AS b$$",
    "SELECT 1 AS \";--\"; SET work_mem = '5MB'",
    "\f\v;\tSET work_mem = '5MB'",
    "SELECT set_config/**/('a.b', 'c', false)",
    "SELECT set_config --\n ('a.b', 'c', false)",
    "SELECT pg_catalog.set_config('a.b', 'c', false)",
    "SELECT \"pg_catalog\" . /**/ \"set_config\" ('a.b', 'c', false)",
    "SELECT U&\"set\\005fconfig\"('a.b', 'c', false)",
    "SELECT u&\"set!005fconfig\" UESCAPE '!' ('a.b', 'c', false)",
    "(SELECT set_config('a.b', 'c', false))",
    "((SELECT 1) UNION SELECT length(set_config('a.b', 'c', false)))",
    "WITH q AS (SELECT set_config('a.b', 'c', false)) SELECT * FROM q",
    "VALUES (set_config('a.b', 'c', false))",
    "EXPLAIN ANALYZE SELECT set_config('a.b', 'c', false)",
    "COPY (SELECT set_config('a.b', 'c', false)) TO STDOUT",
    "INSERT INTO statements.t SELECT length(set_config('a.b', 'c', false))",
    "SELECT ts_stat('SELECT set_config(''a.b'', ''c'', false)::tsvector')",
    "UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
    "UPDATE pg_catalog.pg_settings * SET setting = '5MB' WHERE name = 'work_mem'",
    "UPDATE/**/\"pg_settings\" AS s SET setting = '5MB' WHERE name = 'work_mem'",
    "RESET application_name",
    "DISCARD PLANS; RESET ALL",
    "LISTEN news",
    "UNLISTEN before",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_lock_shared(1, 2)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(1)",
    "CREATE TEMP TABLE a (n int)",
    "CREATE /*x*/ TEMP TABLE a (n int)",
    "CREATE TEMPORARY TABLE a AS SELECT 1",
    "CREATE GLOBAL TEMP TABLE a (n int)",
    "CREATE LOCAL/**/TEMPORARY/**/TABLE a (n int)",
    "CREATE OR REPLACE TEMP VIEW a AS SELECT 1",
    "CREATE TEMP RECURSIVE VIEW a (n) AS SELECT 1",
    "CREATE TEMP SEQUENCE a",
    "EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1",
    "SELECT 1 AS n INTO TEMP a",
    "SELECT 1 AS n INTO TEMPORARY TABLE a",
    "SELECT 1 AS n INTO/**/LOCAL TEMP a",
    "WITH q AS (SELECT 1 AS n) SELECT * INTO TEMP a FROM q",
    "CREATE TABLE pg_temp.a (n int)",
    'CREATE TABLE "pg_temp".a (n int)',
    'CREATE TABLE U&"pg\\005ftemp".a (n int)',
    "SELECT 1 AS n INTO pg_temp.a",
    "CREATE FUNCTION pg_temp.a() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE a (n int); COMMIT",
    "BEGIN; SET LOCAL search_path = 'pg_temp'; CREATE TABLE a (n int); COMMIT",
    "BEGIN; SET LOCAL \"Search_Path\" = E'pg\\x5ftemp'; CREATE TABLE a (n int); COMMIT",
    "BEGIN; SET LOCAL SCHEMA $$pg_temp$$; CREATE TABLE a (n int); COMMIT",
    "PREPARE a AS SELECT 1",
    "PREPARE/**/a AS SELECT 1",
    "DEALLOCATE before",
    "EXECUTE before",
    "EXPLAIN ANALYZE EXECUTE before",
    "EXPLAIN (ANALYZE) EXECUTE before",
    "CREATE TABLE statements.u AS EXECUTE before",
    "CREATE TABLE statements.u AS EXECUTE/**/before",
    "BEGIN; DECLARE a CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "SELECT nextval('statements.s')",
    "SELECT setval('statements.s', 5)",
    "DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$",
    "DO LANGUAGE plpgsql 'BEGIN SET work_mem = 1000; END'",
    "CALL statements.change()",
]
# What doesn't, whatever words it has.
_LEAVES_NOTHING = [
    "SELECT 'SET work_mem = 1', $$;SET work_mem = 1;$$, E'\\';SET work_mem = 1;'",
    "SELECT 1 -- ; SET work_mem = 1",
    "SELECT 1 /* /* */ ; SET work_mem = 1 */",
    "SELECT 'set_config(''a.b'', ''c'', false)'",
    'SELECT 1 AS "set_config(", 2 AS ";SET x = 1"',
    r"SELECT '\', ';SET work_mem = 1;'",
    "SELECT * FROM pg_settings",
    "SELECT 1 FROM pg_class WHERE relname LIKE 'pg_temp%'",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    "SELECT pg_export_snapshot()",
    "BEGIN; SELECT lo_open(lo_creat(-1), 131072); COMMIT",
    "SET LOCAL work_mem = '5MB'",
    "BEGIN; SET LOCAL work_mem = '5MB'; COMMIT",
    "BEGIN; SET LOCAL a.b = 'c'; SET LOCAL ROLE pg_monitor; SET LOCAL TIME ZONE UTC; COMMIT",
    "BEGIN; SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; COMMIT",
    "BEGIN; SET LOCAL SESSION AUTHORIZATION pg_monitor; COMMIT",
    "BEGIN; SET/**/LOCAL/**/\"work_mem\" = '5MB'; COMMIT",
    "BEGIN; SET LOCAL search_path = 'public'; CREATE TABLE a (n int); ROLLBACK",
    "BEGIN; SET TRANSACTION READ ONLY; COMMIT",
    "BEGIN; SET CONSTRAINTS ALL DEFERRED; COMMIT",
    "SELECT 1 AS n INTO statements.temporary",
    "CREATE TABLE statements.u (temp int, type text, execute int)",
    "CREATE TABLE statements.u AS SELECT 1",
    "CREATE SCHEMA AUTHORIZATION CURRENT_USER CREATE TABLE u (n int); DROP SCHEMA postgres CASCADE",
    "CREATE FUNCTION statements.u() RETURNS text LANGUAGE sql AS 'SELECT set_config(''a'', $$b$$, true)'",
    "INSERT INTO statements.t VALUES (1) ON CONFLICT DO NOTHING",
    "UPDATE statements.t SET n = 1",
    "WITH q AS (DELETE FROM statements.t RETURNING n) SELECT * FROM q",
    "MERGE INTO statements.t USING (SELECT 1) AS q ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "COPY statements.t TO STDOUT",
    "EXPLAIN ANALYZE SELECT 1",
    "NOTIFY news",
    "SHOW ALL",
    "VACUUM statements.t",
    "TABLE statements.t",
    "BEGIN; LOCK TABLE statements.t; DECLARE a CURSOR FOR SELECT 1; FETCH a; CLOSE a; COMMIT",
    "BEGIN; SAVEPOINT a; ROLLBACK TO a; RELEASE a; COMMIT AND CHAIN; ABORT",
]
_STATE = """
    SELECT ARRAY(SELECT name || '=' || setting FROM pg_show_all_settings()
                 WHERE name NOT LIKE 'transaction_%'),
        ARRAY(SELECT coalesce(current_setting(name, true), '') FROM unnest(
            '{a.b, local.x, transaction.x, constraints.x, session.x}'::text[]) name),
        session_user, current_user,
        ARRAY(SELECT (classid, objid, mode)::text FROM pg_locks
              WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
        ARRAY(SELECT pg_listening_channels()),
        ARRAY(SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
        ARRAY(SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema()),
        ARRAY(SELECT name FROM pg_prepared_statements ORDER BY 1),
        ARRAY(SELECT name FROM pg_cursors WHERE is_holdable)
"""


@pytest.fixture
def server(database: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """A session of its own, with something in it, and a few things in the database."""
    with connect(database, application_name="x", options="-c client_min_messages=error") as server:
        server.execute(
            "DROP SCHEMA IF EXISTS statements CASCADE; CREATE SCHEMA statements"
            " CREATE TABLE t (n int UNIQUE) CREATE SEQUENCE s;"
            " CREATE PROCEDURE statements.change() LANGUAGE sql"
            " AS 'SELECT set_config(''a.b'', ''c'', false)';"
            " SET application_name = 'y'; LISTEN before;"
            " PREPARE before AS SELECT set_config('a.b', 'c', false)"
        )
        yield server
        server.execute("ROLLBACK; RESET SESSION AUTHORIZATION; RESET ALL")
        server.execute("DROP SCHEMA statements CASCADE")


def _state(server: psycopg.Connection[Any]) -> list[Any]:
    with server.cursor() as cursor:
        state = list(cursor.execute(_STATE).fetchone() or ())
        try:
            state.append(cursor.execute("SELECT currval('statements.s')").fetchone())
        except psycopg.Error:  # not called yet, or not allowed to
            state.append(None)
        return state


def _run(server: psycopg.Connection[Any], sql: str) -> list[bytes]:
    """Run it to the end, as libpq does, and return the tags of its results."""
    tags = []
    server.pgconn.send_query(sql.encode())
    while (result := server.pgconn.get_result()) is not None:
        assert not result.error_message, result.error_message
        while result.status == ExecStatus.COPY_OUT and server.pgconn.get_copy_data(0)[0] > 0:
            pass
        tags.append(result.command_status or b"")
    return tags


@pytest.mark.parametrize("sql", _LEAVES)
def test_what_leaves_something_changes(server: psycopg.Connection[Any], sql: str) -> None:
    before = _state(server)
    tags = _run(server, sql)
    assert _state(server) != before, "it shows nothing"
    assert effect_of(sql) == CHANGES
    assert effect_after(sql, tags) == CHANGES
    assert command_of(sql) != "SELECT"


@pytest.mark.parametrize("sql", _LEAVES_NOTHING)
def test_what_leaves_nothing_does_not_change(server: psycopg.Connection[Any], sql: str) -> None:
    before = _state(server)
    tags = _run(server, sql)
    assert _state(server) == before
    expected = CHANGES if "DECLARE" in sql else UNKNOWN  # at its commit it isn't known WITH HOLD
    assert effect_of(sql) <= expected
    assert effect_after(sql, tags) <= expected


@pytest.mark.parametrize(
    "sql",
    [
        # The documentation lists them.
        "SELECT n FROM statements.hidden",
        "SELECT !!! 'c'",
        r"SELECT '\'', set_config($$a.b$$, $$c$$, false) --'",
    ],
    ids=["view", "operator", "backslash"],
)
def test_what_is_not_seen(server: psycopg.Connection[Any], sql: str) -> None:
    server.execute(
        "CREATE FUNCTION statements.f(text) RETURNS text LANGUAGE sql"
        " AS 'SELECT set_config(''a.b'', ''c'', false)';"
        "CREATE VIEW statements.hidden AS SELECT statements.f('c') AS n;"
        "CREATE OPERATOR !!! (RIGHTARG = text, PROCEDURE = statements.f);"
        "SET standard_conforming_strings = off; SET escape_string_warning = off"
    )
    before = _state(server)
    _run(server, sql)
    assert _state(server) != before
    assert effect_of(sql) < CHANGES


@pytest.mark.parametrize(
    ("sql", "tags", "effect"),
    [
        ("SELECT 1", [b"SELECT 1"], NOTHING),
        ("SELECT f(1)", [b"SELECT 1"], UNKNOWN),
        ("SELECT 1", [], NOTHING),
        ("SELECT 1", [None], NOTHING),
        ("SELECT 1/0", [b""], NOTHING),
        ("INSERT INTO t VALUES (1)", [b"INSERT 0 1"], UNKNOWN),
        ("SET LOCAL x = 1", [b"SET"], UNKNOWN),
        ("SET TRANSACTION READ ONLY", [b"SET"], UNKNOWN),
        ("SET CONSTRAINTS ALL DEFERRED", [b"SET CONSTRAINTS"], UNKNOWN),
        ("PREPARE TRANSACTION 'x'", [b"PREPARE TRANSACTION"], UNKNOWN),
        ("SET x = 1", [b"SET"], CHANGES),
        ("SELECT set_config('a', 'b', false)", [b"SELECT 1"], CHANGES),
        ("CREATE TYPE a AS (n int)", [b"CREATE TYPE"], NEW_TYPES),
        # What the scanner would have missed.
        ("SELECT 1", [b"SET"], CHANGES),
        ("SELECT 1", [b"CREATE TABLE"], CHANGES),
        ("INSERT INTO t VALUES (1)", [b"INSERT 0 1", b"SET"], CHANGES),
        ("SET LOCAL x = 1", [b"SET", b"SET"], CHANGES),
        ("SET CONSTRAINTS ALL DEFERRED", [b"SET"], CHANGES),
        ("INSERT INTO t VALUES (1)", [b"RESET"], CHANGES),
        ("INSERT INTO t VALUES (1)", [b"DISCARD ALL"], CHANGES),
        ("INSERT INTO t VALUES (1)", [b"PREPARE"], CHANGES),
        ("INSERT INTO t VALUES (1)", [b"CREATE EXTENSION"], NEW_TYPES),
        ("INSERT INTO t VALUES (1)", [b"SOMETHING NEW"], CHANGES),
        ("INSERT INTO t VALUES (1)", [b"\xff"], CHANGES),
    ],
)
def test_the_server_has_a_say(sql: str, tags: list[bytes | None], effect: int) -> None:
    assert effect_after(sql, tags) == effect


def test_long_statements_are_not_kept() -> None:
    value = "(%s, %s, %s), "
    tracemalloc.start()
    try:
        for rows in range(300):
            insert = "INSERT INTO t VALUES " + value * (10_000 + rows)
            assert effect_of(insert + "(1, 2, 3)") == UNKNOWN
        for number in range(3_000):
            assert effect_of(f"SELECT {number}, 'é{'x' * 9_000}€'") == NOTHING
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 12_000_000


def test_a_long_statement_is_read_like_a_short_one() -> None:
    rows = ", ".join(["('it''s; SET x = 1', %s, %s)"] * 5_000)
    assert effect_of(f"INSERT INTO t VALUES {rows}") == UNKNOWN
    assert effect_of(f"INSERT INTO t VALUES {rows}; SET x = 1") == CHANGES
    assert effect_of(f"INSERT INTO t VALUES {rows}, (nextval('s'))") == CHANGES
    assert effect_of(f"SELECT 1 WHERE (1, 2, 3) IN ({rows})") < CHANGES
    assert effect_of(f"SELECT set_config('a', 'b', false) WHERE (1, 2, 3) IN ({rows})") == CHANGES
    assert effect_of(f"/* {rows} */ SET x = 1") == CHANGES


def test_hostile_statements_take_no_time() -> None:
    """Would take years if the pattern could try again and again; see the timeout of tests."""
    for piece in ("/*", "(", "--\n", ";", " ", "/* */", "; /*", "*/", "CREATE "):
        assert effect_of(piece * 20_000) < CHANGES
    for piece in ('a"', "a(", "a ", "((", "$"):
        assert effect_of("SELECT " + piece * 20_000) < CHANGES


def test_a_search_path_that_is_a_parameter_is_unknown() -> None:
    """It may be pg_temp: tables that are made then outlive the transaction."""
    for sql in ("SET LOCAL search_path TO %s", "SET LOCAL search_path = %s", "SET LOCAL SCHEMA %s"):
        assert effect_of(sql) == CHANGES
    assert effect_of("SET LOCAL search_path TO tenant") != CHANGES
