"""Finds what makes readers stumble: python -m tests.prose README.md docs django_pooled_pg

A list of phrases, words that stand twice and, in documents, long sentences: what a machine can check of
the style in CONTRIBUTING.md. Of Python files it reads comments and strings. It leaves code alone, in
blocks and in `backquotes`.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

LONGEST = 35  # words, up to the next full stop, colon or semicolon

INSTEAD = {
    r"\bas ever\b": "as always, still",
    r", be (?:it|they|there)\b": "whether, even if",
    r"\b(?:can|to) be had\b": "is available",
    r"\bfor ever\b": "indefinitely",
    r"\bfrom begin\b": "from start to finish",
    r"\bgets out\b": "users see",
    r"\bhas (?:no )?place for\b": "has room for, holds",
    r"\bif need be\b": "if necessary",
    r"\bin (?:its|their) midst\b": "in the middle of",
    r"\bin the words of\b": "quotes",
    r"\blooking after\b": "attention",
    r"\bmost often\b": "usually",
    r"\bof no use\b": "useless",
    r"\bto and fro\b": "back and forth",
    r"\bvery\b": "the sentence without it",
    r"\b(?:e\.g|i\.e)\.": "for example, that is",
    r"\b(?:behaviour|cancelled|(?:recogn|initial|final)is(?:es?|ed|ing))\b": "the American spelling",
}
TWICE = re.compile(r"(?<![\w.-])([A-Za-z]{2,})\s+\1(?![\w.-])")
CODE = re.compile(r"^ *```.*?^ *```$|``?[^`]+``?|\]\([^)]*\)|<[^>]+>", re.MULTILINE | re.DOTALL)
# Items of a list, headings, cells of a table and paragraphs stand by themselves.
BREAK = re.compile(r"^\s*(?:[-*]|\d+\.)\s|^#.*$|\||\n\s*\n", re.MULTILINE)
STOP = re.compile(r"(?<=[.?!:;])[*)\"]*\s+")

Faults = Iterator[tuple[int, str]]


def phrases(text: str) -> Faults:
    """Yield where in a text something stands that shouldn't, and what to do."""
    for phrase, instead in INSTEAD.items():
        for found in re.finditer(phrase.replace(" ", r"\s+"), text, re.IGNORECASE):
            yield found.start(), f"{' '.join(found[0].split())!r}: write {instead}"
    for found in TWICE.finditer(text):
        yield found.start(), f"{found[1]!r} stands twice"


def long_sentences(text: str) -> Faults:
    at = 0
    for part in BREAK.split(text):
        for sentence in STOP.split(part):
            at = text.index(sentence, at)
            if (words := len(sentence.split())) > LONGEST:
                yield at, f"{words} words without a stop: make two sentences of them"


def without_code(text: str) -> str:
    """Put a word in place of code; lines stay where they are."""
    return CODE.sub(lambda code: "\n" * code[0].count("\n") or "x", text)


def faults(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines with a fault, and what it is."""
    source = path.read_text()
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        texts = [
            (token.start[0], without_code(token.string), phrases)
            for token in tokens
            if token.type in (tokenize.COMMENT, tokenize.STRING)
        ]
    else:
        texts = [(1, without_code(source), check) for check in (phrases, long_sentences)]
    for first, text, check in texts:
        for at, what in check(text):
            yield first + text.count("\n", 0, at), what


def main(names: list[str]) -> None:
    paths = [
        path
        for name in names
        for path in sorted([*Path(name).rglob("*.md"), *Path(name).rglob("*.py")] or [Path(name)])
    ]
    found = [f"{path}:{line}: {what}" for path in paths for line, what in sorted(faults(path))]
    print("\n".join(found) or f"{len(paths)} files read well.")
    if found:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
