"""Owns making other people's text safe for a line of a log or a terminal."""

from __future__ import annotations


def printable(text: str, longest: int | None = None) -> str:
    """Return `text` on one line, in which nothing can steer a terminal.

    What isn't printable is written as in Python (`\\x1b`, `\\n`, `\\u202e`, `\\ud800`): control
    characters, line ends, marks that turn the direction of text, lone surrogates. Of one longer
    than `longest` characters the middle is left out.
    """
    if longest is not None and len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
