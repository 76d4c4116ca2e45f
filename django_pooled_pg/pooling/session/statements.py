"""Recognizes statements that change the state of their session; runs none.

Only what is written in the statement can be seen: not a function that calls `set_config`, and not
the value of a parameter. The scanner knows where a word is by PostgreSQL's rules. What isn't known
to be harmless counts as changing something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from .scanner import END, ESCAPED_NAME, LITERAL, NAME, OTHER, UNENDED, WORD, tokens

# What a statement may leave behind in its session. Plain numbers: an enum costs each query more.
# Nothing: it only reads, and calls only well-known functions.
NOTHING = 0
# Nothing that shows; but functions that it calls, or triggers, may leave something.
UNKNOWN = 1
# Something.
CHANGES = 2
# Something, and new types, which open sessions don't know.
NEW_TYPES = 3


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The first words of statements, and of their results' tags, that leave nothing behind after
# their transaction. RETURN is in the bodies of functions.
_HARMLESS = _words(
    "abort alter analyse analyze begin checkpoint close cluster comment commit copy create delete"
    " drop end explain fetch grant import insert lock merge move notify reassign refresh reindex"
    " release repack return revoke rollback savepoint security select show start table truncate"
    " update vacuum values with"
)
# Those for which the second word decides.
_DEPEND = {"set": _words("local transaction constraints"), "prepare": _words("transaction")}
_FUNCTIONS = _words(
    "set_config setseed set_limit nextval setval"
    " pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared"
    " dblink_connect dblink_connect_u dblink_disconnect dblink_open dblink_send_query"
    " pg_create_logical_replication_slot pg_create_physical_replication_slot"
    " pg_copy_logical_replication_slot pg_copy_physical_replication_slot"
    " pg_replication_origin_session_setup pg_replication_origin_session_reset"
    " pg_backup_start pg_start_backup pg_backup_stop pg_stop_backup"
    # These run statements that they get as text.
    " query_to_xml query_to_xmlschema query_to_xml_and_xmlschema ts_stat ts_rewrite"
    " crosstab crosstab2 crosstab3 crosstab4 connectby xpath_table"
)
# A statement that begins harmlessly and has none of these anywhere, not even in a literal, leaves
# nothing behind. Searching for them is faster than the scanner, which finds out where they are.
_SIGNS = _words(
    '; u&" pg_temp pg_settings set_ setseed nextval setval advisory dblink replication backup'
    " query_to_xml ts_stat ts_rewrite crosstab connectby xpath_table"
)
_WRITES = _words("insert update delete merge")
_SIGNS_IN_OTHERS = _SIGNS | _words("temp extension type execute")
# Words, also quoted ones, that have a meaning in certain places; and names with pg_temp.
_NOTED = _words("pg_settings temp temporary extension type execute update merge for into")
_NAMES = frozenset([WORD, NAME])
_UNSURE = frozenset([ESCAPED_NAME, UNENDED])
# What may precede a bracket without being somebody's own function: keywords, and the functions
# that the ORM uses most.
_WELL_KNOWN = _words(
    "select from where and or not in on as by any all exists union except intersect distinct when"
    " then else case having limit using over filter count sum min max avg coalesce upper lower"
    " length cast extract"
)
# Words that, after others, aren't names; and what such a statement leaves behind.
_MADE = {
    **dict.fromkeys(("temp", "temporary"), (_words("create replace into local global"), CHANGES)),
    **dict.fromkeys(("extension", "type"), (_words("create alter"), NEW_TYPES)),
}
# psycopg's %(...)s, with a name whose text would mean something outside a placeholder.
_ODD_NAME = re.compile(r"%\([^)%]*?(?:['\"$;%\n\r]|--|/\*)")
# DO and CALL may do anything.
_PREPARES = r"(?i)\b(?:PREPARE|DO|CALL)\b"
# In characters: the longest statement to remember, the most in total, and what an entry adds.
_LONGEST = 20_000
_MOST = 4_000_000
_ENTRY = 200


def _is_odd(sql: str) -> bool:
    """Tell whether the server may read the text differently: libpq stops at a NUL, for example."""
    return "\0" in sql or "\ufffd" in sql or _ODD_NAME.search(sql) is not None


class _Reader:
    """Reads a text from its tokens. `effect`, `command` and `local_sets` hold the result."""

    def __init__(self, sql: str) -> None:
        self.effect = UNKNOWN
        # The command or function that changes, or "".
        self.command = ""
        # How many SET LOCAL and SET TRANSACTION there are: the server calls them SET.
        self.local_sets = 0
        # Whether it is one SELECT that calls nothing but well-known functions.
        self._only_reads = True
        self._begin()
        if _is_odd(sql):
            self._changes("")
        else:
            self._read(sql)
        if self.effect == UNKNOWN and self._only_reads and self._first == "select":
            self.effect = NOTHING

    def _begin(self) -> None:
        """Start a statement."""
        self._first = self._second = ""
        # What SET LOCAL sets.
        self._target = ""
        self._updates = False

    def _changes(self, command: str, effect: int = CHANGES) -> None:
        self.effect = max(self.effect, effect)
        self.command = self.command or command.upper()

    def _read(self, sql: str) -> None:
        last_kind, last, before_last = END, "", ""
        for kind, text in tokens(sql):
            if not self._first and kind != END:
                self._read_first(kind, text)
            elif self._first in _DEPEND:
                self._read_dependent(kind, text)
            if kind == OTHER:
                if text[0] == "(" and last_kind in _NAMES:
                    self._read_call(last_kind, last, before_last)
            elif kind in _NAMES:
                if text in _NOTED or text[:7] == "pg_temp":
                    self._read_noted(kind, text, last)
            elif kind == END:
                self._begin()
                self._only_reads = False
            elif kind in _UNSURE:
                self._changes("")
            before_last, last_kind, last = last, kind, text

    def _read_first(self, kind: str, text: str) -> None:
        if kind == WORD:
            self._first = text
            if text not in _HARMLESS and text not in _DEPEND:
                self._changes(text)
        else:
            self._only_reads = False

    def _read_dependent(self, kind: str, text: str) -> None:
        """Recognize SET LOCAL, SET TRANSACTION, SET CONSTRAINTS and PREPARE TRANSACTION.

        None of these words is reserved: `SET local.x = 1` and `PREPARE transaction AS SELECT 1` are
        something else.
        """
        if not self._second:
            self._second = text or kind
            if kind != WORD or text not in _DEPEND[self._first]:
                self._changes(self._first)
        elif not self._target:
            self._target = text.lower() or kind
            if self._first == "prepare":
                is_it = kind == LITERAL or text[:1] == "'"
            else:
                is_it = kind == NAME or (kind == WORD and text != "to")
                self.local_sets += self._second != "constraints"
            # What follows it would be read by other rules.
            if not is_it or self._target == "standard_conforming_strings":
                self._changes(self._first)
        elif self._target in ("search_path", "schema") and (
            # Tables then become temporary ones, and outlive the transaction.
            kind == LITERAL or "pg_temp" in text.lower() or "%" in text
        ):
            self._changes(self._first)

    def _read_noted(self, kind: str, text: str, last: str) -> None:
        if text[:7] == "pg_temp":  # also pg_temp_3, another name for it
            self._changes(text)
        elif text == "pg_settings":
            if self._updates:
                self._changes(text)
        elif kind == NAME:
            pass
        elif text in _MADE:
            before, effect = _MADE[text]
            if last in before:
                self._changes(text, effect)
        elif text == "execute":
            if self._first == "explain" or (self._first == "create" and last == "as"):
                self._changes(text)
        elif text in ("update", "merge"):
            self._updates = True
        else:  # FOR UPDATE, or INTO a new table
            self._only_reads = False

    def _read_call(self, kind: str, name: str, before: str) -> None:
        if name in _FUNCTIONS:
            self._changes(name)
        elif kind == NAME or name not in _WELL_KNOWN or before.rstrip().endswith("."):
            self._only_reads = False


_Key = TypeVar("_Key", str, bytes)


class _Known(dict[_Key, int]):
    """Answers that were given before: a hit is one call of dict's own code, in C.

    Its memory is limited, whatever it is asked for.
    """

    def __init__(self, answer: Callable[[_Key], int]) -> None:
        super().__init__()
        self._answer: Callable[[_Key], int] = answer
        self._size = 0

    def __missing__(self, key: _Key) -> int:
        answer = self._answer(key)
        if len(key) <= _LONGEST:
            self._size += len(key) + _ENTRY
            if self._size > _MOST:
                # All at once: finding the oldest would cost each hit.
                self.clear()
                self._size = len(key) + _ENTRY
            self[key] = answer
        return answer


def _effect(sql: str) -> int:
    first = next((text for kind, text in tokens(sql) if kind == WORD), "")
    # A SELECT deserves a closer look, unless it is so long that its cost is elsewhere.
    if first in _HARMLESS and (first != "select" or len(sql) > _LONGEST) and not _is_odd(sql):
        lower = sql.lower()
        if not any(sign in lower for sign in (_SIGNS if first in _WRITES else _SIGNS_IN_OTHERS)):
            return UNKNOWN
    return _Reader(sql).effect


effect_of: Callable[[str], int] = _Known(_effect).__getitem__
"""Tell what a statement (or several) may leave behind: the greatest of the numbers above.

`CHANGES` if its text can't be read with certainty; that costs a reset.
"""

_local_sets: Callable[[str], int] = _Known[str](lambda sql: _Reader(sql).local_sets).__getitem__


def _effect_of_tag(tag: bytes) -> int:
    command = tag.decode(errors="replace").lower()
    first, _, rest = command.partition(" ")
    if first == "select":
        return NOTHING
    if first in ("create", "alter") and rest in ("extension", "type"):
        return NEW_TYPES
    if first in _HARMLESS or command in ("set", "set constraints", "prepare transaction"):
        return UNKNOWN
    return CHANGES


_tag_effect: Callable[[bytes], int] = _Known(_effect_of_tag).__getitem__


def effect_after(sql: str, tags: Iterable[bytes | None]) -> int:
    """Like `effect_of` for a statement that has run, but also judges by its results' tags.

    The tags are libpq's `command_status`, of all results of one execution; those of errors are
    empty. They are the server's own word for the commands that ran. Only the statement tells which
    functions those called, and whether a table was temporary.
    """
    effect = words = effect_of(sql)
    sets = 0
    for tag in tags:
        if tag:
            command = tag.rstrip(b" 0123456789")
            if command == b"SET":
                sets += 1
            effect = max(effect, _tag_effect(command))
    if effect < CHANGES and (effect > words == NOTHING or (sets and sets > _local_sets(sql))):
        return CHANGES  # it wasn't what we took it for
    return effect


def prepares(sql: str) -> bool:
    """Tell whether a statement may be a `PREPARE`, or run one."""
    return re.search(_PREPARES, sql) is not None


def command_of(sql: str) -> str:
    """Return, for people to read, the command or function that `CHANGES`: `"SET"`, for example."""
    return _Reader(sql).command or "?"
