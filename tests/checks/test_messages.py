from __future__ import annotations

import re

from django.core.checks import ERROR, INFO, WARNING

from django_pooled_pg.checks.messages import message
from tests.support.processes import ROOT

PAGE = (ROOT / "docs/checks.md").read_text()


def test_the_level_follows_from_the_id() -> None:
    levels = [message(number, "It is so.", "Do this.").level for number in ("E9", "W9", "I9")]
    assert levels == [ERROR, WARNING, INFO]


def test_the_hint_names_the_section() -> None:
    made = message("W001", "It is so.", "Do this.", "other")
    assert made.hint == "Do this. See docs/checks.md#pooled_pgw001."
    assert (made.id, made.obj) == ("pooled_pg.W001", "DATABASES['other']")
    assert message("W001", "It is so.", "Do this.").obj is None


def test_every_check_has_a_section_and_a_row_and_no_other() -> None:
    sources = (ROOT / "django_pooled_pg").rglob("*.py")
    made = {
        number
        for path in sources
        for number in re.findall(r'message\(\s*"([EWI]\d{3})"', path.read_text())
    }
    sections = re.findall(r"^### pooled_pg\.([EWI]\d{3})$", PAGE, re.MULTILINE)
    rows = re.findall(r"^\| \[([EWI]\d{3})\]\(#pooled_pg([ewi]\d{3})\) \|", PAGE, re.MULTILINE)
    assert set(sections) == made
    assert len(sections) == len(made)
    assert {number for number, _ in rows} == made
    assert all(number.lower() == anchor for number, anchor in rows)
