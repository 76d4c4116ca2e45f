"""What must not be imported, and where tests are; the layers are an import-linter contract.

Also of `driver.py`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import django_pooled_pg
from tests.support.processes import ROOT, environment

PACKAGE = Path(django_pooled_pg.__file__).parent
TESTS = ROOT / "tests"


MODULES = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]


def test_no_module_is_too_long_to_be_read_in_one_go() -> None:
    lengths = {str(m): len((PACKAGE / m).read_text().splitlines()) for m in MODULES}
    assert {module: length for module, length in lengths.items() if length > 300} == {}


def test_each_module_has_its_test_file_or_is_named_in_one() -> None:
    """In that one's docstring: by its name where folders are the same, else by its path."""
    said = {
        path: ast.get_docstring(ast.parse(path.read_text())) or ""
        for path in TESTS.rglob("test_*.py")
    }

    def is_named(module: Path) -> bool:
        return any(
            f"`{module.relative_to(folder)}`" in text and path.is_relative_to(TESTS / folder)
            for folder in module.parents
            for path, text in said.items()
        )

    def has_its_own(module: Path) -> bool:
        folder = TESTS / module.parent
        return (folder / f"test_{module.name}").exists() or (folder / module.stem).is_dir()

    modules = [module for module in MODULES if module.stem != "__init__"]
    assert [str(m) for m in modules if not has_its_own(m) and not is_named(m)] == []


@pytest.mark.parametrize(
    "module", ["pooling.registry", "pooling.config", "monitoring.snapshot", "prewarming"]
)
def test_import_knows_no_requests_settings_and_models(module: str) -> None:
    script = f"""
import sys
import django_pooled_pg.{module}
from django.conf import settings
assert not settings.configured
found = {{"django.http", "django.db.models", "django_pooled_pg.wrapper"}} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)


def test_without_psycopg_3_it_says_what_to_install() -> None:
    script = """
import sys
sys.modules["psycopg"] = None  # as if it weren't installed
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django_pooled_pg", "NAME": "books"}})
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
try:
    connection.ensure_connection()
except ImproperlyConfigured as error:
    assert 'pip install "psycopg[binary]"' in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)
