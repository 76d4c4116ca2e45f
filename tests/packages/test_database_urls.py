"""dj-database-url and django-environ: `pooledpg://` with the pool's settings in the query."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.pooling.config import PoolConfig
from tests.support.processes import ROOT, environment, run_script

Parse = Callable[..., dict[str, Any]]


@pytest.fixture(params=["dj_database_url", "environ"])
def parse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Return what reads a URL, after the line that docs/database-urls.md has for the library."""
    missing = f"{request.param} isn't installed: make test-packages"
    library = pytest.importorskip(request.param, reason=missing)
    if request.param == "environ":
        monkeypatch.setitem(library.Env.DB_SCHEMES, "pooledpg", "django_pooled_pg")
        parsed: Parse = library.Env.db_url_config
    else:
        monkeypatch.setattr(library, "ENGINE_SCHEMES", {**library.ENGINE_SCHEMES})
        library.register("pooledpg", "django_pooled_pg")
        parsed = library.parse
    return parsed


def config(settings: dict[str, Any]) -> PoolConfig | None:
    assert settings["ENGINE"] == "django_pooled_pg"
    return PoolConfig.from_settings("default", settings)


def test_a_url_without_a_query(parse: Parse) -> None:
    settings = parse("pooledpg://user:s%40crt@db.example.com:5433/books")
    assert config(settings) == PoolConfig()
    place = {key: settings[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    assert place == {
        "NAME": "books",
        "USER": "user",
        "PASSWORD": "s@crt",
        "HOST": "db.example.com",
        "PORT": 5433,
    }


def test_settings_of_the_pool(parse: Parse) -> None:
    query = (
        "pool.max_size=20&pool.min_size=2&pool.return_at=transaction&pool.timeout=0.5"
        "&pool.leak_threshold=none&pool.prewarm=true&pool.name=books&sslmode=prefer"
    )
    settings = parse(f"pooledpg://user:pw@db/books?{query}")
    assert config(settings) == PoolConfig(
        max_size=20,
        min_size=2,
        return_at="transaction",
        timeout=0.5,
        prewarm=True,
        name="books",
    )
    assert settings["OPTIONS"]["sslmode"] == "prefer"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_another_scheme_with_the_engine_given(parse: Parse, scheme: str) -> None:
    settings = parse(f"{scheme}://user:pw@db/books?pool.max_size=3", engine="django_pooled_pg")
    assert config(settings) == PoolConfig(max_size=3)


def test_a_pool_may_be_switched_off(parse: Parse) -> None:
    assert config(parse("pooledpg://db/books?pool=true")) == PoolConfig()
    assert config(parse("pooledpg://db/books?pool=false&pool.max_size=3")) is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("pool.maxsize=3", "did you mean 'max_size'?"),
        ("pool.max_size=abc", "['max_size'] is a string; give a whole number"),
        ("pool.max_size=0", "['max_size'] is 0"),
        ("pool.timeout=-1", "['timeout'] is -1; give seconds"),
        (
            "pool.return_at=end",
            "['return_at'] is another string; use one of 'request', 'transaction'",
        ),
        ("pool.prewarm=yes", "['prewarm'] is another string; use one of False, True, 'wait'"),
        ("pool=20", "is 20; give a dict of options, True or False"),
    ],
)
def test_wrong_settings_are_named_and_the_password_is_not(
    parse: Parse, query: str, said: str
) -> None:
    settings = parse(f"pooledpg://user:s3cret@db/books?{query}")
    with pytest.raises(ImproperlyConfigured) as caught:
        config(settings)
    assert said in str(caught.value)
    assert "DATABASES['default']" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def url_of(database: dict[str, Any], query: str) -> str:
    user, password = quote(database["USER"], safe=""), quote(database["PASSWORD"] or "", safe="")
    host = quote(database["HOST"], safe="")
    return f"pooledpg://{user}:{password}@{host}:{database['PORT']}/{database['NAME']}?{query}"


def test_a_site_with_such_a_url(parse: Parse, database: dict[str, Any]) -> None:
    """With a pool, and without: libpq mustn't see what isn't for it."""
    query = "pool.max_size=3&pool.return_at=transaction&application_name=urls"
    script = """
from django.core.management import call_command
call_command("check", databases=["default", "without"], fail_level="INFO")
for alias in connections:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_setting('application_name')")
        name, = cursor.fetchone()
    print(name, connections[alias].connection is None, connections[alias].pool)
connections.close_all()
"""
    out = run_script(
        script,
        {
            "default": parse(url_of(database, query)),
            "without": parse(url_of(database, query + "&pool=false")),
        },
        INSTALLED_APPS=["django_pooled_pg"],
    )
    assert out.splitlines()[-2:] == [
        "urls True <Pool 'default' alias='default' size=1/3 in_use=0 idle=1 waiting=0>",
        "urls False None",
    ]


SITES = {
    "dj_database_url": """
import dj_database_url
dj_database_url.register("pooledpg", "django_pooled_pg")
DATABASES = {"default": dj_database_url.config()}
""",
    "environ": """
import environ
environ.Env.DB_SCHEMES["pooledpg"] = "django_pooled_pg"
DATABASES = {"default": environ.Env().db()}
""",
}


@pytest.mark.parametrize("library", SITES)
def test_check_names_what_is_wrong(library: str, database: dict[str, Any], tmp_path: Path) -> None:
    """The lines of docs/database-urls.md in a site's settings."""
    pytest.importorskip(library, reason=f"{library} isn't installed: make test-packages")
    apps = "INSTALLED_APPS = ['django_pooled_pg']\n"
    (tmp_path / "urlsite.py").write_text(SITES[library] + apps)
    url = url_of({**database, "PASSWORD": "s3cret"}, "pool.return_at=transaction&pool.max_size=")
    checked = {
        size: subprocess.run(
            [sys.executable, "-m", "django", "check"],
            env=environment(
                DATABASE_URL=url + size,
                DJANGO_SETTINGS_MODULE="urlsite",
                PYTHONPATH=f"{tmp_path}:{ROOT}",
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for size in ("3", "abc")
    }
    assert (checked["3"].returncode, checked["abc"].returncode) == (0, 1)
    assert "no issues" in checked["3"].stdout
    said = "(pooled_pg.E001) DATABASES['default']['OPTIONS']['pool']['max_size'] is a string"
    assert said in checked["abc"].stdout
    assert "s3cret" not in checked["abc"].stdout
