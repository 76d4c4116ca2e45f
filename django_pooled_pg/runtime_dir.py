"""Finds the folder in which the processes of one deployment and user meet.

Must not trust what it finds there: everybody may write to the temporary folder around it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

# The longest path of a Unix socket that the operating system accepts, in bytes.
_SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
# "/", a process id, "-", a token, ".sock"
_SOCKET_NAME_ROOM = 22

_HINT = "Set POOLED_PG_RUNTIME_DIR to a folder that only this user can use."

# Where an alias's server is, with the variable that libpq reads where the setting is empty. Not the
# user: a worker may use another one than the site.
_PLACE = {"HOST": "PGHOST", "PORT": "PGPORT", "NAME": "PGDATABASE"}
# The aliases' settings at process start; sites change them while they run, for example to select
# a tenant's database.
_noted: dict[str, dict[str, str]] | None = None


class RuntimeDirError(OSError):
    """The runtime folder can't be made, or isn't private to this user.

    An `OSError`, like anything else that can go wrong with files and sockets there.
    """


def note_databases() -> None:
    """Remember where the databases are before a request can change the settings."""
    global _noted
    _noted = _databases()


def describe(alias: str) -> str:
    """Name the database and the settings module: what tells deployments apart."""
    place = _place(settings.DATABASES[alias])
    where = place["SERVICE"] and f"service {place['SERVICE']}"
    if place["NAME"]:
        port = f":{place['PORT']}" if place["PORT"] else ""
        where = f"{place['NAME']} on {place['HOST'] or 'this host'}{port}"
    name = getattr(settings, "SETTINGS_MODULE", None)
    return f"{alias!r} ({where}{f', {name}' if name else ''})"


def runtime_dir() -> Path:
    """Return the runtime folder, which is private to this user; makes it if needed.

    It is the setting `POOLED_PG_RUNTIME_DIR` (an absolute path whose parent exists) or else
    `<temporary folder>/django_pooled_pg-<uid>/<key>`. The key stands for the deployment:
    the settings module, its file, and where the databases are. Not `XDG_RUNTIME_DIR`: shells have
    it, workers started by systemd don't, and the two would look for each other in different
    places. For the same reason systemd's `PrivateTmp`, or a different TMPDIR, requires the setting.

    Raises `RuntimeDirError`.
    """
    return _made(_folders(_key()))


def shared_dir() -> Path:
    """Return the folder that all deployments of this user share; makes it if needed.

    It is the setting `POOLED_PG_RUNTIME_DIR`, or else the parent of the runtime folder: workers
    with a settings module of their own find the site's folder there. Raises `RuntimeDirError`.
    """
    return _made(_folders())


def _folders(*key: str) -> list[Path]:
    """Return the folder, preceded by those of its parents that are ours, too."""
    configured = getattr(settings, "POOLED_PG_RUNTIME_DIR", None)
    if configured is None:
        ours = Path(tempfile.gettempdir(), f"django_pooled_pg-{os.geteuid()}")
        return [ours, *(ours / each for each in key)]
    path = _path(configured)
    if not path.is_absolute():
        raise RuntimeDirError(f"POOLED_PG_RUNTIME_DIR is not an absolute path: '{path}'.")
    return [path]


def _made(folders: list[Path]) -> Path:
    path = folders[-1]
    limit = _SOCKET_PATH_LIMIT - _SOCKET_NAME_ROOM
    if (length := len(os.fsencode(path))) > limit:
        raise RuntimeDirError(
            f"'{path}' is too long for Unix sockets: {length} bytes, at most {limit} are "
            "possible. Set POOLED_PG_RUNTIME_DIR to a shorter path."
        )
    _refuse_open_parents(folders[0].parent)
    for folder in folders:
        _make_private(folder)
    return path


def _path(configured: Any) -> Path:
    try:
        path = Path(configured)
        if b"\0" not in os.fsencode(path):
            return path
    except (TypeError, ValueError):
        pass  # ValueError: a string that can't be a path
    raise RuntimeDirError("POOLED_PG_RUNTIME_DIR is not a path: give an absolute one, or None.")


def _key() -> str:
    # Without a settings module (settings.configure()), only the databases tell programs apart.
    name = getattr(settings, "SETTINGS_MODULE", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    module = [name, os.path.realpath(file) if file else ""]
    identity = repr([module, sorted((_noted or _databases()).items())])
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:8]


def _databases() -> dict[str, dict[str, str]]:
    return {alias: _place(database) for alias, database in settings.DATABASES.items()}


def _place(database: dict[str, Any]) -> dict[str, str]:
    options = database.get("OPTIONS")
    # A later check reports OPTIONS that isn't a dict.
    said = options.get("service") if isinstance(options, dict) else None
    service = said or os.environ.get("PGSERVICE", "")
    found = {
        name: str(database.get(name) or os.environ.get(variable, ""))
        for name, variable in _PLACE.items()
    }
    return {**found, "SERVICE": str(service)}


def _refuse_open_parents(folder: Path) -> None:
    # Whoever may rename a folder on the way to the socket can put their own in its place, between
    # our check and our next step.
    real = Path(os.path.realpath(folder))
    for parent in (real, *real.parents):
        try:
            mode = parent.stat().st_mode
        except OSError:
            continue  # if this matters, making the folder fails and says why
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise RuntimeDirError(
                f"'{parent}' can be written by everybody (mode {stat.S_IMODE(mode):04o}), so what "
                f"is in it can be swapped. Run: chmod +t '{parent}', or set POOLED_PG_RUNTIME_DIR "
                "to a folder elsewhere."
            )


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass  # checked below, like a new one
    except OSError as ex:
        raise RuntimeDirError(f"'{folder}' can't be made: {ex.strerror}. {_HINT}") from ex
    try:
        # lstat: somebody else's symbolic link must not lead us astray.
        status = folder.lstat()
    except OSError as ex:
        raise RuntimeDirError(f"'{folder}' can't be examined: {ex.strerror}. {_HINT}") from ex
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeDirError(f"'{folder}' is not a folder (links are refused, too). {_HINT}")
    if status.st_uid != os.geteuid():
        raise RuntimeDirError(
            f"'{folder}' belongs to user {status.st_uid}, not to user {os.geteuid()}. {_HINT}"
        )
    if status.st_mode & 0o077:
        raise RuntimeDirError(
            f"'{folder}' is open to other users (mode {stat.S_IMODE(status.st_mode):04o}). "
            f"Run: chmod 700 '{folder}'"
        )
