"""What the documentation states about the code is so."""

from __future__ import annotations

import dataclasses
import re

import pytest

from django_pooled_pg.pooling.config import PoolConfig
from tests.support.processes import ROOT

SETTINGS = (ROOT / "docs/settings.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", SETTINGS, re.MULTILINE))


def test_every_option_is_documented_and_no_other() -> None:
    keys = {"class" if f.name == "pool_class" else f.name for f in dataclasses.fields(PoolConfig)}
    assert set(ROWS) == keys


@pytest.mark.parametrize("field", dataclasses.fields(PoolConfig), ids=lambda f: f.name)
def test_documented_defaults_are_the_defaults(field: dataclasses.Field[object]) -> None:
    said = ROWS["class" if field.name == "pool_class" else field.name]
    if isinstance(field.default, type):
        assert field.default.__qualname__ in said
    else:
        assert str(field.default) in said


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_python_blocks_compile() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            compile(block, page.name, "exec")
