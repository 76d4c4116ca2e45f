"""Makes other people's text safe for a log line or a terminal."""

from __future__ import annotations


def printable(text: str, longest: int | None = None) -> str:
    """Return `text` on one line, without anything that could control a terminal.

    What isn't printable is written as in Python (`\\x1b`, `\\n`, `\\u202e`, `\\ud800`): control
    characters, line ends, marks that change the direction of text, lone surrogates. A text of
    more than `longest` characters loses its middle.
    """
    if longest is not None and len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
