"""What must not be imported; the rest of the layers is an import-linter contract."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import environment


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
