"""Owns recognising statements that change the state of their session; runs none.

Only what is written in the statement can be seen: a function that calls `set_config` is not.
"""

from __future__ import annotations

import re
from functools import lru_cache

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

_CHANGES = re.compile(
    rf"(?:\A|;){_BLANKS}(?:{_COMMANDS})\b"
    rf"|\b(?:{_FUNCTIONS})\"?\s*\("
    r"|\b(?:CREATE|REPLACE|INTO)\s+(?:LOCAL\s+|GLOBAL\s+)?TEMP(?:ORARY)?\b"
    r"|\bpg_temp\b",
    re.IGNORECASE,
)
_PREPARES = re.compile(r"\bPREPARE\b", re.IGNORECASE)


# The ORM sends the same few statements again and again.
@lru_cache(maxsize=1000)
def changes_session(sql: str) -> bool:
    """Tell whether a statement (or several) may leave something behind in its session.

    May say yes for nothing, as for a word inside a literal: that costs a reset.
    """
    return _CHANGES.search(sql) is not None


def prepares(sql: str) -> bool:
    """Tell whether a statement may be a `PREPARE`."""
    return _PREPARES.search(sql) is not None
