"""PostgreSQL's lexical rules: cuts a text into tokens; knows no command and no function.

https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and flex's rules in the server's
scan.l. One pass, in time linear in the text's length: no pattern here can try anything twice,
since nothing that follows a repetition can fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Kinds of tokens. A word is a keyword or an identifier, and comes in lower case.
WORD = "word"
# A quoted identifier, without its quotes.
NAME = "name"
# U&"...": an identifier that may turn out to be anything.
ESCAPED_NAME = "escaped_name"
# E'...', U&'...' (or its beginning) and $$...$$: literals whose text needs more than one match.
LITERAL = "literal"
# Everything up to the next token of another kind: operators, brackets, numbers, plain literals.
OTHER = "other"
# The semicolon.
END = "end"
# A literal or quoted identifier that doesn't end; or such a comment. Nothing follows.
UNENDED = "unended"
UNENDED_COMMENT = "unended_comment"

# Matches that aren't tokens, or only begin one.
_LINE_COMMENT = "line_comment"
_LONG_COMMENT = "long_comment"
_ESCAPED = "escaped"
_DOLLAR = "dollar"
_COMMENTS = frozenset([_LINE_COMMENT, "comment"])
_LONG = frozenset([_LONG_COMMENT, _ESCAPED, _DOLLAR])

# Every character outside ASCII is a letter to PostgreSQL, and none of them is a blank.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_IN_WORD = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
_TAG = rf"(?:{_LETTER}[^\x00-/:-@\[-^`{{-\x7f]*)?"
_BLANKS = r"[ \t\n\r\f\v]*"

# Each begins with a character that no other begins with, except letters; the frequent ones first.
_TOKEN = re.compile(
    # \Z: otherwise blanks at the end would be tried again and again.
    rf"{_BLANKS}(?:"
    # What begins nothing else. Written as what it is, not as what it isn't: at each start, `re`
    # takes 2 ms for a set that goes beyond \uffff.
    r"(?P<other>(?:[\x00-!#&(-,.0-:<-@\[-^`{-\x7f]+"
    # psycopg's placeholders where there are many: in VALUES and IN. The limit saves the memory
    # that repetition takes.
    r"|'[^']*'|%s(?=[,)])|%|-(?!-)|/(?!\*)"
    rf"|\$(?!{_TAG}\$)){{1,500}})"
    r'|"(?P<name>[^"]*)"'
    r"|(?P<escaped>[eE]')"
    r"|(?P<literal>[uU]&(?='))"
    r'|(?P<escaped_name>[uU]&"[^"]*")'
    rf"|(?P<word>{_LETTER}{_IN_WORD}*)"
    r"|(?P<end>;)"
    r"|(?P<line_comment>--[^\n\r]*)"
    r"|(?P<comment>/\*[^*/]*\*/)"
    r"|(?P<long_comment>/\*)"
    rf"|(?P<dollar>\${_TAG}\$)"
    r"|(?P<unended>['\"])"
    r"|\Z)"
)
_IN_COMMENT = re.compile(r"/\*|\*/")
_IN_ESCAPED = re.compile(r"\\.|''|'", re.DOTALL)


def tokens(sql: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each token; comments and blanks aren't tokens.

    A backslash has a meaning only in E'...': `standard_conforming_strings` is on.
    """
    position = 0
    # Where E'...' ended, as long as only blanks and comments followed: after a line end, it
    # continues, with its backslashes.
    escaped_end = -1
    while position >= 0:
        for token in _TOKEN.finditer(sql, position):
            kind = token.lastgroup
            if kind in _LONG:
                if kind != _LONG_COMMENT:
                    yield LITERAL, ""
                position = _end_of(sql, token)
                escaped_end = position if kind == _ESCAPED else -1
                break
            if kind == OTHER and escaped_end >= 0 and _goes_on(sql, escaped_end, token):
                position = escaped_end = _escaped_end(sql, token.start(OTHER) + 1)
                break
            if kind != _LINE_COMMENT:
                escaped_end = -1
            if kind == WORD:
                yield WORD, token[WORD].lower()
            elif kind is not None and kind not in _COMMENTS:
                yield kind, token[kind]
            if kind == UNENDED:
                return
        else:
            return
    yield (UNENDED_COMMENT if kind == _LONG_COMMENT else UNENDED), ""


def _goes_on(sql: str, escaped_end: int, token: re.Match[str]) -> bool:
    start = token.start(OTHER)
    between = sql[escaped_end:start]
    return sql[start] == "'" and ("\n" in between or "\r" in between)


def _end_of(sql: str, token: re.Match[str]) -> int:
    """Return where the construct ends that `token`, one of `_LONG`, begins; -1 if it doesn't."""
    if token.lastgroup == _LONG_COMMENT:
        return _comment_end(sql, token.end())
    if token.lastgroup == _ESCAPED:
        return _escaped_end(sql, token.end())
    delimiter = token[_DOLLAR]
    end = sql.find(delimiter, token.end())
    return end + len(delimiter) if end >= 0 else -1


def _comment_end(sql: str, start: int) -> int:
    depth = 1
    for found in _IN_COMMENT.finditer(sql, start):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return -1


def _escaped_end(sql: str, start: int) -> int:
    for found in _IN_ESCAPED.finditer(sql, start):
        if found[0] == "'":
            return found.end()
    return -1
