from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from django_pooled_pg.runtime_dir import RuntimeDirError, describe, runtime_dir, shared_dir
from tests.monitoring.members import short_folder
from tests.support.processes import run_script

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def temporary(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty temporary folder; the setting is not set."""
    settings.POOLED_PG_RUNTIME_DIR = None
    with short_folder() as path:
        monkeypatch.setattr(tempfile, "tempdir", str(path))
        yield path


@pytest.fixture
def folder(settings: Any) -> Iterator[Path]:
    """The folder of the setting."""
    with short_folder() as path:
        settings.POOLED_PG_RUNTIME_DIR = str(path)
        yield path


def refused() -> str:
    with pytest.raises(RuntimeDirError) as caught:
        runtime_dir()
    return str(caught.value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_default_is_private_per_user_and_project(temporary: Path, settings: Any) -> None:
    path = runtime_dir()
    assert path.parent == temporary / f"django_pooled_pg-{os.geteuid()}"
    assert (mode(path), mode(path.parent)) == (0o700, 0o700)
    assert runtime_dir() == path
    settings.SETTINGS_MODULE = "json"
    assert runtime_dir() != path


def test_same_settings_name_in_another_place_is_another_project(
    temporary: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    settings.SETTINGS_MODULE = "json"
    path = runtime_dir()
    monkeypatch.setattr(json, "__file__", "/srv/elsewhere/json.py")
    assert runtime_dir() != path


DATABASE = {"ENGINE": "django_pooled_pg", "HOST": "db.internal", "PORT": 5432, "NAME": "shop"}

SHOW = """
from django_pooled_pg.runtime_dir import runtime_dir
print(runtime_dir())
"""


@pytest.fixture
def folder_of(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Returns the folder of a process with these databases."""

    def run(script: str = SHOW, env: dict[str, str] | None = None, **changes: Any) -> str:
        for name, value in {"TMPDIR": str(temporary), **(env or {})}.items():
            monkeypatch.setenv(name, value)
        found = run_script(script, {"default": {**DATABASE, **changes}})
        for name in env or {}:
            monkeypatch.delenv(name)
        return found

    return run


@pytest.mark.parametrize(
    "change",
    [
        {"HOST": "staging.internal"},
        {"PORT": 6432},
        {"NAME": "shop_staging"},
        {"OPTIONS": {"service": "staging"}},
    ],
)
def test_two_environments_with_one_settings_module_are_apart(
    folder_of: Callable[..., str], change: dict[str, Any]
) -> None:
    assert folder_of() != folder_of(**change)


def test_what_libpq_takes_from_the_environment_counts(folder_of: Callable[..., str]) -> None:
    staging = folder_of(env={"PGHOST": "staging.internal"}, HOST="")
    assert staging != folder_of(HOST="")
    assert staging == folder_of(HOST="staging.internal")


def test_processes_of_one_deployment_find_each_other(folder_of: Callable[..., str]) -> None:
    elsewhere = f"os.chdir('/')\n{SHOW}"
    assert folder_of() == folder_of(elsewhere) == folder_of(PORT="5432", USER="x", PASSWORD="y")
    assert folder_of() == folder_of(OPTIONS={"pool": {"max_size": 3}}, CONN_MAX_AGE=0)


def test_a_tenants_database_set_by_a_request_changes_nothing(
    folder_of: Callable[..., str],
) -> None:
    # The app has noted where the databases are.
    script = f"""
from django_pooled_pg.apps import PooledPgConfig
import django_pooled_pg
PooledPgConfig("django_pooled_pg", django_pooled_pg).ready()
connection.settings_dict["NAME"] = "tenant"
{SHOW}"""
    assert folder_of(script) == folder_of()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"USER": "somebody", "PASSWORD": "sesame"}, "(shop on db.internal:5432, shop.settings)"),
        ({"HOST": "", "PORT": ""}, "(shop on this host, shop.settings)"),
        ({"NAME": "", "OPTIONS": {"service": "live"}}, "(service live, shop.settings)"),
    ],
)
def test_says_which_database_of_which_settings(
    settings: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    settings.SETTINGS_MODULE = "shop.settings"
    monkeypatch.setitem(settings.DATABASES, "shop", {**DATABASE, **change})
    assert describe("shop") == f"'shop' {said}"


def test_programs_without_a_settings_module_find_each_other(temporary: Path, settings: Any) -> None:
    settings.SETTINGS_MODULE = None
    assert runtime_dir() == runtime_dir()


def test_all_deployments_of_a_user_share_the_folder_above(temporary: Path) -> None:
    assert shared_dir() == runtime_dir().parent == temporary / f"django_pooled_pg-{os.geteuid()}"


def test_with_the_setting_there_is_one_folder(folder: Path) -> None:
    assert shared_dir() == runtime_dir() == folder


def test_the_user_folder_must_be_private(temporary: Path) -> None:
    ours = temporary / f"django_pooled_pg-{os.geteuid()}"
    ours.mkdir()
    ours.chmod(0o777)
    message = refused()
    assert "open to other users (mode 0777)" in message
    assert f"chmod 700 '{ours}'" in message


@pytest.mark.parametrize("above", [0, 1])
def test_a_parent_that_everybody_may_write_is_refused(
    folder: Path, settings: Any, temporary: Path, above: int
) -> None:
    inner = temporary / "a" / "b"
    inner.mkdir(parents=True)
    opened = [inner, inner.parent][above]
    opened.chmod(0o777)
    for place in (None, str(inner / "run")):
        settings.POOLED_PG_RUNTIME_DIR = place
        tempfile.tempdir = str(inner)
        message = refused()
        assert f"'{opened}' can be written by everybody (mode 0777)" in message
        assert f"chmod +t '{opened}'" in message
        assert list(inner.iterdir()) == []
    opened.chmod(0o1777)
    assert mode(runtime_dir()) == 0o700


def test_setting_is_made_and_used(folder: Path, settings: Any) -> None:
    settings.POOLED_PG_RUNTIME_DIR = folder / "new"
    assert runtime_dir() == folder / "new"
    assert mode(folder / "new") == 0o700


@pytest.mark.parametrize("wrong", [0o755, 0o710, 0o702, 0o1777])
def test_refuses_what_others_may_enter(folder: Path, wrong: int) -> None:
    folder.chmod(wrong)
    assert f"(mode {wrong:04o})" in refused()


def test_refuses_links(folder: Path, settings: Any) -> None:
    (folder / "real").mkdir(mode=0o700)
    (folder / "link").symlink_to("real")
    settings.POOLED_PG_RUNTIME_DIR = str(folder / "link")
    assert "is not a folder" in refused()
    settings.POOLED_PG_RUNTIME_DIR = f"{folder / 'link'}/"
    assert "is not a folder" in refused()
    (folder / "real").rmdir()
    assert "is not a folder" in refused()


def test_refuses_files(folder: Path, settings: Any) -> None:
    (folder / "file").touch(mode=0o600)
    settings.POOLED_PG_RUNTIME_DIR = str(folder / "file")
    assert "is not a folder" in refused()


@as_root
def test_refuses_other_users_folders(folder: Path) -> None:
    os.chown(folder, 12345, -1)
    assert "belongs to user 12345, not to user 0" in refused()


def test_refuses_relative_paths(settings: Any) -> None:
    settings.POOLED_PG_RUNTIME_DIR = "run"
    assert "not an absolute path: 'run'" in refused()


def test_options_that_are_no_dict_are_left_to_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    database = {"NAME": "books", "HOST": "", "PORT": "", "OPTIONS": "wrong"}
    monkeypatch.setattr(django_settings, "DATABASES", {"default": database})
    assert "books on this host" in describe("default")


@pytest.mark.parametrize(
    "value", [5, True, b"/tmp/run", [], {}, "/tmp/\0run", "/tmp/\ud800"], ids=repr
)
def test_refuses_what_is_no_path(settings: Any, value: object) -> None:
    settings.POOLED_PG_RUNTIME_DIR = value
    assert "is not a path" in refused()


def test_a_missing_parent_is_not_made(folder: Path, settings: Any) -> None:
    settings.POOLED_PG_RUNTIME_DIR = str(folder / "missing" / "run")
    assert "can't be made: No such file or directory" in refused()


def test_the_longest_path_still_takes_a_socket(folder: Path, settings: Any) -> None:
    longest = 0
    while True:
        name = "x" * (longest + 1)
        settings.POOLED_PG_RUNTIME_DIR = str(folder / name)
        try:
            path = runtime_dir()
        except RuntimeDirError as ex:
            assert "too long for Unix sockets" in str(ex)  # noqa: PT017
            break
        longest += 1
    assert longest > 0
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "4194304-01234567.sock"))
