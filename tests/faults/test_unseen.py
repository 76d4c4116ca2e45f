"""What still reaches the next borrower: what docs/how-it-works.md lists, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.string import TextLoader

from django_pooled_pg.base import DatabaseWrapper
from tests.support.queries import backend_pid, fetch

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def wrapper(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    return make_wrapper(pool={"max_size": 1})


def execute(wrapper: DatabaseWrapper, sql: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture(autouse=True)
def objects(make_wrapper: MakeWrapper) -> Iterator[None]:
    """Functions that change something, and what hides them."""
    admin = make_wrapper(alias="admin", OPTIONS={"pool": False})
    execute(
        admin,
        "DROP SCHEMA IF EXISTS unseen CASCADE; CREATE SCHEMA unseen;"
        "CREATE FUNCTION unseen.memory() RETURNS text LANGUAGE sql"
        " AS 'SELECT set_config(''work_mem'', ''5MB'', false)';"
        "CREATE FUNCTION unseen.name(text) RETURNS text LANGUAGE sql"
        " AS 'SELECT set_config(''application_name'', $1, false)';"
        "CREATE VIEW unseen.view AS SELECT unseen.name('unseen') AS name;"
        # Where search_path finds it: OPERATOR(unseen.!!!) would look like a function.
        "CREATE OPERATOR !!! (RIGHTARG = text, PROCEDURE = unseen.name);"
        "CREATE TABLE unseen.numbered (id serial);"
        "CREATE TABLE unseen.triggering (n int);"
        "CREATE FUNCTION unseen.trigger() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM unseen.memory(); RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE INSERT ON unseen.triggering"
        " FOR EACH ROW EXECUTE FUNCTION unseen.trigger();"
        "CREATE TABLE unseen.secured AS SELECT 1 AS n;"
        "ALTER TABLE unseen.secured ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON unseen.secured USING (unseen.name('unseen') = 'unseen');"
        "GRANT USAGE ON SCHEMA unseen TO pg_monitor;"
        "GRANT SELECT ON unseen.secured TO pg_monitor",
    )
    yield
    execute(admin, "DROP SCHEMA unseen CASCADE")  # and with it the operator
    admin.close()


# What is done, and how the next borrower sees it.
UNSEEN = {
    "function": ("SELECT unseen.memory()", "SHOW work_mem", "5MB"),
    "trigger": ("INSERT INTO unseen.triggering VALUES (1)", "SHOW work_mem", "5MB"),
    "view": ("SELECT name FROM unseen.view", "SHOW application_name", "unseen"),
    "operator": ("SELECT !!! 'unseen'", "SHOW application_name", "unseen"),
    "currval": (
        "INSERT INTO unseen.numbered DEFAULT VALUES",
        "SELECT currval('unseen.numbered_id_seq')",
        1,
    ),
    "lastval": ("INSERT INTO unseen.numbered DEFAULT VALUES", "SELECT lastval()", 1),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_not_seen(wrapper: DatabaseWrapper, name: str) -> None:
    do, look, found = UNSEEN[name]
    execute(wrapper, do)
    wrapper.close()
    assert fetch(wrapper, look) == found


@pytest.mark.parametrize("name", UNSEEN)
def test_always_undoes_it(make_wrapper: MakeWrapper, name: str) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "reset": "always"})
    do, look, found = UNSEEN[name]
    execute(wrapper, do)
    wrapper.close()
    try:
        assert fetch(wrapper, look) != found
    except Exception as ex:
        assert "not yet defined in this session" in str(ex)  # noqa: PT017


def test_a_policy_of_a_table(make_wrapper: MakeWrapper) -> None:
    options = {"assume_role": "pg_monitor", "pool": {"max_size": 1}}
    wrapper = make_wrapper(OPTIONS=options)
    execute(wrapper, "SELECT n FROM unseen.secured")
    wrapper.close()
    assert fetch(wrapper, "SHOW application_name") == "unseen"


def test_a_backslash_before_a_quote(make_wrapper: MakeWrapper) -> None:
    """With standard_conforming_strings = off, which is the session's from its start."""
    options = "-c standard_conforming_strings=off -c escape_string_warning=off"
    wrapper = make_wrapper(OPTIONS={"options": options, "pool": {"max_size": 1}})
    execute(wrapper, r"SELECT '\'', set_config($$work_mem$$, $$5MB$$, false) --'")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == "5MB"


class Loud(TextLoader):
    def load(self, data: Any) -> str:
        return str(super().load(data)).upper()


def test_adapters_of_psycopgs_connection(wrapper: DatabaseWrapper) -> None:
    wrapper.ensure_connection()
    wrapper.connection.adapters.register_loader("text", Loud)
    wrapper.close()
    assert fetch(wrapper, "SELECT 'quiet'::text") == "QUIET"


LIBPQS: dict[str, Callable[[Any], Any]] = {
    "of a transaction": lambda connection: psycopg.Transaction(connection).pgconn,
    "of a cursor": lambda connection: connection.cursor()._pgconn,
}


@pytest.mark.parametrize("where", LIBPQS)
def test_libpqs_connection_from_elsewhere(wrapper: DatabaseWrapper, where: str) -> None:
    wrapper.ensure_connection()
    pgconn = LIBPQS[where](wrapper.connection)
    pgconn.exec_(b"SET work_mem = '5MB'")
    wrapper.close()
    assert fetch(wrapper, "SHOW work_mem") == "5MB"
    wrapper.close()
    pgconn.exec_(b"SET work_mem = '6MB'")  # it isn't taken away either
    assert fetch(wrapper, "SHOW work_mem") == "6MB"


class Proxy:
    """Stands before a connection, as what ddtrace puts there."""

    __slots__ = ("_wrapped",)

    def __init__(self, wrapped: Any) -> None:
        object.__setattr__(self, "_wrapped", wrapped)

    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # as wrapt's proxies have it
        return self._wrapped.__dict__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._wrapped, name, value)


class Proxied(psycopg.Connection[Any]):
    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Any:
        return Proxy(super().connect(*args, **kwargs))


def test_a_proxy_that_was_kept(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "connection_class": Proxied})
    wrapper.ensure_connection()
    kept = wrapper.connection
    assert type(kept) is Proxy
    wrapper.close()
    kept.execute("SET work_mem = '5MB'")
    assert fetch(wrapper, "SHOW work_mem") == "5MB"


# What DISCARD leaves: that it was done is seen, and the session reset.
SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE active_pid = pg_backend_pid()"
LEFT = {
    "replication slot": (
        "SELECT pg_create_physical_replication_slot('unseen', false, true)",
        SLOTS,
    ),
    "library": ("LOAD 'plpgsql'", "SELECT current_setting('plpgsql.extra_errors', true)"),
    "dblink": (
        "CREATE EXTENSION IF NOT EXISTS dblink; SELECT dblink_connect(format("
        "'application_name=unseen port=%s host=%s dbname=%s user=%s password=%s',"
        " {port}, {host}, {name}, {user}, {password}))",
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'unseen'",
    ),
    "seed": ("SELECT setseed(0.25)", "SELECT random() = {random}"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_a_reset_leaves(wrapper: DatabaseWrapper, database: dict[str, Any], name: str) -> None:
    execute(wrapper, "SELECT setseed(0.25)")
    random = f"{fetch(wrapper, 'SELECT random()')!r}::float8"
    wrapper.close()
    literals = {
        key.lower(): "'{}'".format(str(database[key]).replace("'", "''"))
        for key in ("PORT", "HOST", "NAME", "USER", "PASSWORD")
    }
    do, look = (text.format(random=random, **literals) for text in LEFT[name])
    new = fetch(wrapper, look)
    try:
        execute(wrapper, do)
    except Exception as ex:
        pytest.skip(f"not on this server: {ex}")
    wrapper.close()
    assert wrapper.pool is not None
    resets = wrapper.pool.statistics().resets
    left, pid = fetch(wrapper, look), backend_pid(wrapper)
    assert left != new, "it doesn't outlive a reset"
    assert resets
    # What helps.
    wrapper.ensure_connection()
    wrapper.connection.close()
    wrapper.close()
    assert backend_pid(wrapper) != pid


def test_the_list_of_what_is_put_back_is_no_longer(wrapper: DatabaseWrapper) -> None:
    """Row factories and handlers aren't on the list: they are seen."""
    wrapper.ensure_connection()
    wrapper.connection.row_factory = psycopg.rows.dict_row
    wrapper.close()
    assert fetch(wrapper, "SELECT 1") == 1
