from __future__ import annotations

import pytest

from django_pooled_pg.pooling.session.statements import (
    CHANGES,
    NEW_TYPES,
    NOTHING,
    UNKNOWN,
    command_of,
    effect_of,
    prepares,
)


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
    ],
)
def test_changes(sql: str) -> None:
    assert effect_of(sql) == CHANGES


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
        'SELECT U&"\\0066"(1)',
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
    assert not prepares("SET x = 1")


def test_hostile_statements_take_no_time() -> None:
    """Would take years if the pattern could try again and again; see the timeout of tests."""
    for piece in ("/*", "(", "--\n", ";", " ", "/* */", "; /*", "*/", "CREATE "):
        assert effect_of(piece * 20_000) < CHANGES
    for piece in ('a"', "a(", "a ", "((", "$"):
        assert effect_of("SELECT " + piece * 20_000) < CHANGES
