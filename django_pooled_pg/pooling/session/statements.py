"""Owns recognising statements that change the state of their session; runs none.

Only what is written in the statement can be seen: a function that calls `set_config` is not.
"""

from __future__ import annotations

import re
from functools import lru_cache

# What a statement may leave behind in its session. Plain numbers: an enum costs each query more.
# Nothing: it only reads, and calls no function but well-known ones.
NOTHING = 0
# Nothing that can be seen in it; but functions that it calls, or triggers, may.
UNKNOWN = 1
# Something.
CHANGES = 2
# And types, which sessions that are open don't know.
NEW_TYPES = 3

_COMMANDS = (
    r"SET(?!\s+(?:LOCAL|TRANSACTION|CONSTRAINTS)\b)|RESET|DISCARD|LISTEN|UNLISTEN"
    # WITH HOLD cursors outlive their transaction; DO and CALL may do whatever there is.
    r"|PREPARE(?!\s+TRANSACTION\b)|DEALLOCATE|DECLARE|LOAD|DO|CALL"
)
_FUNCTIONS = (
    r"set_config|setseed|set_limit|nextval|setval|dblink_connect(?:_u)?"
    r"|pg_(?:try_)?advisory_lock(?:_shared)?"
)
# Possessive, and with a limit: no statement may make this try again and again.
_BLANKS = r"(?:\s|\(|--[^\n]*+|/\*(?:[^*]|\*(?!/)){0,2000}+\*/)*+"

_TYPES = r"\b(?:CREATE|ALTER)\s+(?:EXTENSION|TYPE)\b"
_CHANGES = re.compile(
    rf"(?:\A|;){_BLANKS}(?:{_COMMANDS})\b|{_TYPES}"
    rf"|\b(?:{_FUNCTIONS})\"?\s*\("
    r"|\b(?:CREATE|REPLACE|INTO)\s+(?:LOCAL\s+|GLOBAL\s+)?TEMP(?:ORARY)?\b"
    r"|\bpg_temp\b",
    re.IGNORECASE,
)
_NEW_TYPES = re.compile(_TYPES, re.IGNORECASE)
_WORD = re.compile(r"\w+")
# What may be there before a bracket without being a function that somebody wrote: keywords, and
# the functions that the ORM uses most.
_WELL_KNOWN = frozenset(
    [
        "select",
        "from",
        "where",
        "and",
        "or",
        "not",
        "in",
        "on",
        "as",
        "by",
        "any",
        "all",
        "exists",
        "union",
        "except",
        "intersect",
        "distinct",
        "when",
        "then",
        "else",
        "case",
        "having",
        "limit",
        "using",
        "over",
        "filter",
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "coalesce",
        "upper",
        "lower",
        "length",
        "cast",
        "extract",
    ]
)
_NOT_PLAIN = re.compile(r";|--|/\*|\b(?:FOR|INTO)\b", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?<![\w$.])\w+\Z")
# Of what is before a bracket, so many characters are looked at.
_NEAR = 100

_PREPARES = re.compile(r"\bPREPARE\b", re.IGNORECASE)


# The ORM sends the same few statements again and again.
@lru_cache(maxsize=1000)
def effect_of(sql: str) -> int:
    """Tell what a statement (or several) may leave behind: the greatest of the numbers above.

    May say `CHANGES` for nothing, as for a word inside a literal: that costs a reset.
    """
    if _CHANGES.search(sql) is not None:
        return NEW_TYPES if _NEW_TYPES.search(sql) is not None else CHANGES
    return NOTHING if _is_plain_read(sql) else UNKNOWN


def _is_plain_read(sql: str) -> bool:
    if sql[:7].upper() != "SELECT " or _NOT_PLAIN.search(sql) is not None:
        return False
    bracket = sql.find("(")
    while bracket >= 0:
        before = sql[max(0, bracket - _NEAR) : bracket].rstrip()
        if before[-1:] in ('"', ""):
            return False
        if before[-1].isalnum() or before[-1] in "_$":
            word = _LAST_WORD.search(before)
            if word is None or word[0].lower() not in _WELL_KNOWN:
                return False
        bracket = sql.find("(", bracket + 1)
    return True


def prepares(sql: str) -> bool:
    """Tell whether a statement may be a `PREPARE`."""
    return _PREPARES.search(sql) is not None


def command_of(sql: str) -> str:
    """Return, for people to read, which command or function `CHANGES`: `"SET"`, for example."""
    found = _CHANGES.search(sql)
    return _WORD.findall(found[0])[-1].upper() if found is not None else "?"
