from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_pooled_pg.pooling.session.scanner import tokens
from django_pooled_pg.pooling.session.statements import CHANGES, effect_of
from tests.support.queries import connect


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" \t\n\r\f\v", []),
        ("SELECT 1", [("word", "select"), ("other", "1")]),
        ("a/**/b", [("word", "a"), ("word", "b")]),
        ("a/* /* */ ; */b", [("word", "a"), ("word", "b")]),
        ("a/*/**/*/b", [("word", "a"), ("word", "b")]),
        ("a/*/*/b", [("word", "a"), ("unended_comment", "")]),
        ("/**", [("unended_comment", "")]),
        ("--a\rb", [("word", "b")]),
        ("--a\nb", [("word", "b")]),
        # Neither a line's end nor a blank is anything outside of ASCII: they are letters.
        ("--a\u2028b", []),
        ("a\xa0b", [("word", "a\xa0b")]),
        ("a+--b", [("word", "a"), ("other", "+")]),
        ("a-b", [("word", "a"), ("other", "-"), ("word", "b")]),
        ("a*/*b*/c", [("word", "a"), ("other", "*"), ("word", "c")]),
        ("'a' ';--/*$$'", [("other", "'a' ';--/*$$'")]),
        ("'it''s' a", [("other", "'it''s' "), ("word", "a")]),
        (r"'\' a", [("other", r"'\' "), ("word", "a")]),
        (r"E'\'' a", [("literal", ""), ("word", "a")]),
        (r"e'\\' a", [("literal", ""), ("word", "a")]),
        (r"E'a''\'' a", [("literal", ""), ("word", "a")]),
        ("E'\\\n' a", [("literal", ""), ("word", "a")]),
        # A literal goes on after a line's end, by its own rules.
        ("E'a'\n'\\'' b", [("literal", ""), ("word", "b")]),
        ("E'a' --'\n '\\'' b", [("literal", ""), ("word", "b")]),
        ("E'a'\n--'\r\n'b' '\\' b", [("literal", ""), ("other", "'\\' "), ("word", "b")]),
        ("E'a' '\\' b", [("literal", ""), ("other", "'\\' "), ("word", "b")]),
        ("E'a'/*\n*/'\\' b", [("literal", ""), ("other", "'\\' "), ("word", "b")]),
        ("E'a'/*/**/\n*/'\\' b", [("literal", ""), ("other", "'\\' "), ("word", "b")]),
        ("E'a'\n,'\\' b", [("literal", ""), ("other", ",'\\' "), ("word", "b")]),
        (r"xE'\' b", [("word", "xe"), ("other", r"'\' "), ("word", "b")]),
        (r"E '\' b", [("word", "e"), ("other", r"'\' "), ("word", "b")]),
        (r"1E'\'' b", [("other", "1"), ("literal", ""), ("word", "b")]),
        (r"B'1' X'1' N'\' b", [
            ("word", "b"), ("other", "'1' "), ("word", "x"), ("other", "'1' "),
            ("word", "n"), ("other", r"'\' "), ("word", "b"),
        ]),
        (r"U&'\' b", [("literal", "U&"), ("other", r"'\' "), ("word", "b")]),
        ('u&"a" b', [("escaped_name", 'u&"a"'), ("word", "b")]),
        ('u & "a"', [("word", "u"), ("other", "& "), ("name", "a")]),
        ('xU&"a"', [("word", "xu"), ("other", "&"), ("name", "a")]),
        ('"SET a;" "b""c"', [("name", "SET a;"), ("name", "b"), ("name", "c")]),
        ("$$ ' $a$ ; $$b", [("literal", ""), ("word", "b")]),
        ("$a$ $$ $b$ $A$ $a$b", [("literal", ""), ("word", "b")]),
        ("$a$ $b$a$b", [("literal", ""), ("word", "b")]),
        ("$é$ ; $é$b", [("literal", ""), ("word", "b")]),
        ("a$b$c", [("word", "a$b$c")]),
        ("$1$a$;$a$", [("other", "$1"), ("literal", "")]),
        ("$1a$;", [("other", "$1"), ("word", "a$"), ("end", ";")]),
        ("a;b", [("word", "a"), ("end", ";"), ("word", "b")]),
        ("(%s, %s),(%b)", [("other", "(%s, %s),(%"), ("word", "b"), ("other", ")")]),
        ("1 %s(2)", [("other", "1 %"), ("word", "s"), ("other", "(2)")]),
        ("a 'b", [("word", "a"), ("unended", "'")]),
        ('a "b', [("word", "a"), ("unended", '"')]),
        ("E'a\\'", [("literal", ""), ("unended", "")]),
        ("E'a'\n'b\\'", [("literal", ""), ("unended", "")]),
        ("$a$ $b$", [("literal", ""), ("unended", "")]),
    ],
)  # fmt: skip
def test_tokens(sql: str, expected: list[tuple[str, str]]) -> None:
    assert list(tokens(sql)) == expected


# What a statement could be mistaken for another by.
_SNARES = [
    *("'", "''", '"', '""', "\\", "\\'", "$", "$$", "$a$", "$b$", "/", "*", "/*", "*/", "-", "--"),
    *(";", ";--", "(", ")", ",", "E", "e'", "E'", "U&", "U&'", 'u&"', "N'", "1", "a", "é", "%s"),
    *(" ", "\t", "\v", "\f", "\xa0", "\u2028", "\n", "\r", "SELECT 1", "SET a.b = 'yes'", "TEMP"),
    *(";SET a.b = 'yes';", "set_config('a.b', 'yes', false)", "CREATE TYPE", "RESET ALL"),
    *(",set_config('a.b', 'yes', false),", "DO $$", "BEGIN", "LISTEN a"),
]
_TRAPS = st.lists(st.sampled_from(_SNARES), max_size=6).map("".join)


def _line_comment(text: str, end: str) -> str:
    return "--" + text.replace("\n", "").replace("\r", "") + end


def _block_comment(text: str, inner: str) -> str:
    # Without those that would begin or end another.
    text = text.replace("/", "|").replace("*", "+")
    return f"/*{text}{inner}{text}*/"


_COMMENTS = st.recursive(
    st.just(""), lambda inner: st.builds(_block_comment, _TRAPS, inner), max_leaves=3
) | st.builds(_line_comment, _TRAPS, st.sampled_from("\n\r"))
_BLANKS = st.sampled_from([" ", "\n", "\t", "\r\n", "\f"])
_MAYBE = st.lists(_BLANKS | _COMMENTS, max_size=3).map("".join)
# Where two words would be one without it.
_BETWEEN = _MAYBE.map(lambda gap: gap or " ")


@st.composite
def _literals(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["", "N", "U&", "u&", "E", "e", "B", "$"]))
    text = draw(_TRAPS)
    if kind == "$":
        tag = draw(st.sampled_from(["$$", "$a$", "$c1$", "$_$", "$é$"]))
        return f"{tag}{text.replace('$', '')}{tag}"
    if kind == "B":
        return "B'01'"
    text = text.replace("'", "''")
    if kind in ("E", "e", "U&", "u&"):
        text = text.replace("\\", "\\\\")
    elif draw(st.booleans()):
        text += "\\"  # which is nothing but itself
    pieces = [text]
    if draw(st.booleans()):  # the pieces after the first have its rules
        pieces.append(r"\';" if kind in ("E", "e") else "'';")
    gap = draw(st.sampled_from(["\n", " \r", "\t--x'\n", "\n--'\n --\n", "--\r\n"]))
    return kind + "'" + f"'{gap}'".join(pieces) + "'"


_NAMES = st.sampled_from(["x", "e$$a", "é", "n1"]) | _TRAPS.map(
    lambda text: '"x{}"'.format(text[:20].replace('"', '""'))
)
_FUNCTIONS = st.sampled_from(["set_config", "SET_Config", '"set_config"'])
_SCHEMAS = st.sampled_from(["", "pg_catalog.", '"pg_catalog" . ', "PG_Catalog/**/./**/"])


@st.composite
def _selects(draw: st.DrawFn, changes: bool) -> str:
    columns = draw(st.lists(_literals() | st.sampled_from(["1", "-1", "(2)"]), max_size=3))
    if changes:
        columns.append(f"{draw(_SCHEMAS)}{draw(_FUNCTIONS)}{draw(_MAYBE)}('a.b', 'yes', false)")
        columns = draw(st.permutations(columns))
    named = [
        f"{column} {draw(_MAYBE)}AS{draw(_BETWEEN)}{draw(_NAMES)}"
        if draw(st.booleans())
        else column
        for column in columns or ["1"]
    ]
    keyword = draw(st.sampled_from(["SELECT", "select", "Select"]))
    return keyword + draw(_BETWEEN) + f"{draw(_MAYBE)},{draw(_MAYBE)}".join(named)


@st.composite
def _sets(draw: st.DrawFn, changes: bool) -> str:
    words = ["SET", draw(st.sampled_from(["SESSION", ""] if changes else ["LOCAL", "local"]))]
    return draw(_BETWEEN).join([*words, "a.b"]) + draw(_MAYBE) + "= 'yes'"


@st.composite
def _texts(draw: st.DrawFn) -> tuple[str, bool]:
    """A text that the server takes, and whether it leaves something in the session."""
    parts = [draw(_MAYBE)]
    leaves = False
    for _ in range(draw(st.integers(1, 3))):
        changes = draw(st.sampled_from([False, False, True]))
        statement = draw(_selects(changes) | _sets(changes))
        parts.append(statement + draw(_MAYBE) + ";" + draw(_MAYBE))
        leaves = leaves or changes
    return "".join(parts), leaves


@pytest.fixture
def server(database: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    with connect(database, options="-c client_min_messages=error") as connection:
        yield connection


def _leaves(server: psycopg.Connection[Any], sql: str) -> tuple[bool, bytes]:
    """Run it, and tell whether it left something in the session, and the server's error."""
    server.execute("SET a.b = ''")
    # Not psycopg's own, which would look for placeholders.
    error = server.pgconn.exec_(sql.encode()).error_message
    server.execute("ROLLBACK")
    (left,) = server.execute("SELECT current_setting('a.b')").fetchone() or ()
    return left == "yes", error


_ON_ONE_SERVER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=250
)


@_ON_ONE_SERVER
@given(text=_texts())
def test_what_the_server_does_is_what_was_read(
    server: psycopg.Connection[Any], text: tuple[str, bool]
) -> None:
    sql, leaves = text
    assert _leaves(server, sql) == (leaves, b""), sql
    assert (effect_of(sql) >= CHANGES) is leaves


@_ON_ONE_SERVER
@given(
    head=st.sampled_from(["", "SELECT ", "SELECT 'a' ", "SELECT E'", "SELECT $$", "SET ", "/*"]),
    pieces=st.lists(st.sampled_from(_SNARES), max_size=12),
)
def test_nothing_that_the_server_takes_escapes(
    server: psycopg.Connection[Any], head: str, pieces: list[str]
) -> None:
    sql = head + "".join(pieces)
    if _leaves(server, sql)[0]:
        assert effect_of(sql) >= CHANGES


_HOSTILE = [
    *(";--", ";/*", "/*", "*/", "/**/", "/*/", "--\n", "--", "/* */", "; /*", "'", "''", "'a'\n"),
    *('"', '""', "$", "$$", "$a$", "$a$ $b$", "$a", "a$", "E'", "E''\n", "E''\n--\n", "E'\\", "\\"),
    *("U&", "U&'", 'U&"', "%s", "%(", "%(a)s ", "a(", "a ", "a", "a.", " ", "\n", "(", ";", "-"),
    *("/", "1a", "é", "CREATE ", "SET LOCAL ", "it''s "),
]


@pytest.mark.parametrize("head", ["", "SELECT ';' ", "SELECT E'"])
@pytest.mark.parametrize("piece", _HOSTILE)
def test_twice_the_text_is_about_twice_the_work(head: str, piece: str) -> None:
    def work(pieces: int) -> float:
        times = []
        for attempt in range(3):
            sql = head + piece * pieces + " " * attempt  # else it would be remembered
            before = time.thread_time()  # of this thread alone, whatever else the machine does
            effect_of(sql)
            times.append(time.thread_time() - before)
        return min(times)

    # Were it the square, it would be 256 times.
    assert work(48_000) < 60 * (work(3_000) + 0.0005)
