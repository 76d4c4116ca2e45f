from __future__ import annotations

import pytest

from django_pooled_pg.pooling.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ä, 漢, 🐘", "plain text, ä, 漢, 🐘"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nCRITICAL b\r", r"a\nCRITICAL b\r"),
        ("\x9b31m\x85\x7f\x00\t", r"\x9b31m\x85\x7f\x00\t"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202egpj.exe\u2066\u200b", r"\u202egpj.exe\u2066\u200b"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    shown.encode()


def test_no_control_character_gets_through() -> None:
    controls = [*range(0x20), *range(0x7F, 0xA0)]
    assert all(
        printable(chr(code)).isascii() and len(printable(chr(code))) > 1 for code in controls
    )


def test_of_a_long_text_the_middle_is_left_out() -> None:
    assert printable("at " + "x" * 1000 + "/views.py:7", 31) == "at xxxxxxxxxxx...xxx/views.py:7"
    assert printable("x" * 31, 31) == "x" * 31
