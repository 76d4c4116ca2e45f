from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_pooled_pg.monitoring.runtime_dir import RuntimeDirError, runtime_dir
from tests.monitoring.members import short_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def temporary(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty temporary folder; the setting is not set."""
    settings.POOLED_PG_RUNTIME_DIR = None
    with short_folder() as path:
        monkeypatch.setattr(tempfile, "tempdir", str(path))
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


def test_programs_without_a_settings_module_find_each_other(temporary: Path, settings: Any) -> None:
    settings.SETTINGS_MODULE = None
    assert runtime_dir() == runtime_dir()


def test_the_user_folder_must_be_private(temporary: Path) -> None:
    ours = temporary / f"django_pooled_pg-{os.geteuid()}"
    ours.mkdir()
    ours.chmod(0o777)
    message = refused()
    assert "open to other users (mode 0777)" in message
    assert f"chmod 700 '{ours}'" in message


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
