"""What users may import exists and is documented; nothing else is public."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.utils.module_loading import import_string

import django_pooled_pg
from tests.support.processes import ROOT, environment

API = (ROOT / "docs" / "api.md").read_text()
PUBLIC = [name for name in django_pooled_pg.__all__ if name != "__version__"]
_, _, OF_PATHS = API.partition("## Paths in settings")
# `a`, `b`: what a row begins with. An ENGINE is a package that has a module `base`.
PATHS = {
    path
    for row in re.findall(r"^\| (`django_pooled_pg.*?) \|", OF_PATHS, re.MULTILINE)
    for path in re.findall(r"`([\w.]+)`", row)
}
CREDENTIALS = {path for path in PATHS if path[0] == "."} | {"django_pooled_pg.credentials.aws_rds"}
DOTTED = sorted(PATHS - CREDENTIALS - {"django_pooled_pg"})


def run(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment(DJANGO_SETTINGS_MODULE="tests.settings"),
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_can_be_imported(name: str) -> None:
    found = getattr(django_pooled_pg, name)
    # Where it is at home it has the same name.
    home = getattr(found, "__module__", None)
    if isinstance(home, str) and home.startswith("django_pooled_pg"):
        assert getattr(importlib.import_module(home), name) is found


def documented() -> set[str]:
    """Return the names of the page, without those of their parts."""
    objects = re.findall(
        r"^\.\. (?:auto\w+|py:data):: (?:django_pooled_pg\.)?([\w.]+)", API, re.MULTILINE
    )
    return {name for name in objects if "." not in name}


def test_each_name_is_documented_and_no_other() -> None:
    assert documented() == set(PUBLIC) - {"aio"}  # a module, whose names are elsewhere


def test_what_else_the_page_describes_is_said_to_be_elsewhere() -> None:
    described = re.findall(r":: (django_pooled_pg\.\w+\.[\w.]+)$", API, re.MULTILINE)
    elsewhere = {name for name in described if name not in DOTTED}
    assert elsewhere == {
        "django_pooled_pg.aio.connection",
        # Its methods are those of `Pool`.
        "django_pooled_pg.pooling.supply",
        "django_pooled_pg.pooling.supply.Supply",
    }


def test_the_list_is_sorted_and_each_name_in_it_once() -> None:
    public = django_pooled_pg.__all__
    assert len(set(public)) == len(public)
    assert [*public] == sorted(public, key=lambda n: (not n.isupper(), not n[0].isupper(), n))


def test_type_checkers_see_the_names_where_they_are() -> None:
    tree = ast.parse(Path(django_pooled_pg.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == django_pooled_pg._HOME_OF
    assert sorted(seen) == sorted(PUBLIC)


@pytest.mark.parametrize("path", DOTTED)
def test_each_path_of_settings_is_there(path: str) -> None:
    if path.rpartition(".")[2][0].isupper():
        assert isinstance(import_string(path), type)
    elif "postgis" in path:
        pytest.importorskip("django.contrib.gis.gdal", exc_type=Exception)
    elif "postgresql" in path:
        assert importlib.import_module(f"{path}.base").DatabaseWrapper
    else:
        assert importlib.import_module(path).urlpatterns


def test_credentials_of_the_page_are_those_that_there_are() -> None:
    folder = ROOT / "django_pooled_pg" / "credentials"
    there = {path.stem for path in folder.glob("*.py")} - {"__init__", "token"}
    assert {path.rpartition(".")[2] for path in CREDENTIALS} == there


def test_the_import_loads_nothing_else() -> None:
    script = """
import sys
before = set(sys.modules)
import django_pooled_pg
added = {name for name in set(sys.modules) - before if "django" in name or "psycopg" in name}
print(*added)
"""
    assert run(script).split() == ["django_pooled_pg"]


def test_a_star_imports_what_is_listed() -> None:
    script = """
import django
django.setup()
from django_pooled_pg import *
print(*dir())
"""
    assert set(run(script).split()) >= set(PUBLIC)


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = django_pooled_pg.nothing  # type: ignore[attr-defined]
    assert set(dir(django_pooled_pg)) >= set(PUBLIC)


def test_the_version_is_that_of_the_changelog() -> None:
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] in ("Unreleased", django_pooled_pg.__version__)
