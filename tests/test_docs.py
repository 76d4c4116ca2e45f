"""What the documentation states about the code is true."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import load_backend

from django_pooled_pg.pooling.config import PoolConfig
from tests.support.processes import ROOT

DOCS = ROOT / "docs"
SETTINGS = (DOCS / "settings.md").read_text()
# Of each option: its default, its meaning, and when to change it.
OPTIONS = {
    name: cells.split(" | ")
    for name, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", SETTINGS, re.MULTILINE)
}
TESTS = {
    test
    for page in DOCS.glob("*.md")
    for test in re.findall(r"tests/[\w/]+\.py(?:::\w+)?", page.read_text())
}


def test_every_option_is_documented_and_no_other() -> None:
    keys = {"class" if f.name == "pool_class" else f.name for f in dataclasses.fields(PoolConfig)}
    assert set(OPTIONS) == keys


def test_every_option_says_when_to_change_it() -> None:
    assert [name for name, cells in OPTIONS.items() if len(cells) != 3 or not cells[2]] == []


@pytest.mark.parametrize("field", dataclasses.fields(PoolConfig), ids=lambda f: f.name)
def test_documented_defaults_are_the_defaults(field: dataclasses.Field[object]) -> None:
    said, *_ = OPTIONS["class" if field.name == "pool_class" else field.name]
    if isinstance(field.default, type):
        assert field.default.__qualname__ in said
    else:
        assert str(field.default) in said


def headings(page: Path) -> list[str]:
    """Return the headings of a page, as links name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found]


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            to = page.parent / link if link else page
            assert to.exists(), f"{page.name}: {link}"
            assert not heading or heading in headings(to), f"{page.name}: {link}#{heading}"


def test_python_blocks_compile() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            compile(block, page.name, "exec")


@pytest.mark.parametrize("test", sorted(TESTS))
def test_tests_that_are_named_exist(test: str) -> None:
    path, _, name = test.partition("::")
    assert not name or re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    assert (ROOT / path).exists()


def test_every_page_is_in_the_table_of_contents() -> None:
    trees = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if re.fullmatch(r"[\w-]+", line)]
    # That what is listed is there, Sphinx tells.
    assert {page.stem for page in DOCS.glob("*.md")} - {"index", *listed} == set()


# What differs in a message: %-formatting in the code, "..." on the page.
VARIABLE = re.compile(r"%[.\d]*[a-z]|\.\.\.|\n")


def fragments(message: str) -> list[str]:
    """Return the words of a message that are always the same."""
    return [words for part in VARIABLE.split(message) if len(words := part.strip(" :;,.'()")) > 3]


def modules() -> Iterator[ast.Module]:
    for path in (ROOT / "django_pooled_pg").rglob("*.py"):
        yield ast.parse(path.read_text())


def messages_of_the_page() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text()
    ours, _, _ = page.partition("## Errors of PostgreSQL")
    return re.findall(r"```text\n(.*?)\n```", ours, re.DOTALL)


def test_messages_to_look_for_are_those_of_the_code() -> None:
    texts = [
        words
        for module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for words in VARIABLE.split(node.value)
    ]
    for message in messages_of_the_page():
        for words in fragments(message):
            assert any(words in text for text in texts), f"{words!r} of: {message}"


def logged() -> Iterator[str]:
    """What is logged at WARNING or above."""
    for module in modules():
        for node in ast.walk(module):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name("logger"), attr="warning" | "error" | "exception"
                    ),
                    args=[ast.Constant(str(message)), *_],
                ):
                    yield message


def can_be_looked_up(message: str) -> bool:
    return max(fragments(message), key=len) in (DOCS / "troubleshooting.md").read_text()


def test_what_is_logged_can_be_looked_up() -> None:
    assert [message for message in logged() if not can_be_looked_up(message)] == []


def raised(name: str) -> Iterator[str]:
    """What a module of the pool raises."""
    for node in ast.walk(ast.parse((ROOT / f"django_pooled_pg/{name}.py").read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            parts = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            if said := "...".join(part for part in parts if isinstance(part, str)):
                yield said


@pytest.mark.parametrize(
    "name",
    [
        "wrapper/borrowing",
        "returning",
        "pooling/connector",
        "pooling/untold",
        "pooling/session/reset",
        "pooling/session/use",
    ],
)
def test_what_is_raised_can_be_looked_up(name: str) -> None:
    """Those of the settings and of the commands say what to do by themselves."""
    messages = list(raised(name))
    assert messages
    assert [message for message in messages if not can_be_looked_up(message)] == []


def test_why_a_pool_is_exhausted_can_be_looked_up() -> None:
    source = (ROOT / "django_pooled_pg/pooling/exhaustion.py").read_text()
    causes = [
        "...".join(part.value for part in node.value.values if isinstance(part, ast.Constant))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.AugAssign) and isinstance(node.value, ast.JoinedStr)
    ]
    assert len(causes) > 4
    assert [cause for cause in causes if not can_be_looked_up(cause)] == []


ENGINES = {
    engine
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]
    for engine in re.findall(
        r"""(?:"ENGINE": |BACKEND(?:_BASE)? = |engine=)"(django_pooled_pg[\w.]*)\"""",
        page.read_text(),
    )
}


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_engines_can_be_loaded(engine: str) -> None:
    try:
        backend = load_backend(engine)
    except ImproperlyConfigured as error:
        assert "postgis" in engine
        pytest.skip(f"Django's GIS needs libraries that aren't here: {error}")
    assert backend.DatabaseWrapper.vendor == "postgresql"


def test_the_engines_of_the_pages_are_found() -> None:
    assert {
        "django_pooled_pg",
        "django_pooled_pg.postgresql",
        "django_pooled_pg.postgis",
    } <= ENGINES
