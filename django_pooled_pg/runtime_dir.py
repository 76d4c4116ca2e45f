"""Owns the folder in which the processes of one deployment and user find each other.

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

# What the operating system takes as the path of a Unix socket, in bytes.
_SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
# "/", a process id, "-", a token, ".sock"
_SOCKET_NAME_ROOM = 22

_HINT = "Set POOLED_PG_RUNTIME_DIR to a folder that only this user can use."

# Of each alias where its server is: what libpq looks for in the environment where a setting is
# empty. Not the user: a worker's may be another one than the site's.
_PLACE = {"HOST": "PGHOST", "PORT": "PGPORT", "NAME": "PGDATABASE"}
# What the aliases' settings said when the process began; sites change them while they run, to
# have a tenant's database for example.
_noted: dict[str, dict[str, str]] | None = None


class RuntimeDirError(OSError):
    """The runtime folder can't be made, or isn't private to this user.

    An `OSError`, as whatever else can go wrong with files and sockets there.
    """


def note_databases() -> None:
    """Remember where the databases are, before a request can change the settings."""
    global _noted
    _noted = _databases()


def describe(alias: str) -> str:
    """Say which database that is, of which settings: what tells deployments apart."""
    place = _place(settings.DATABASES[alias])
    where = place["SERVICE"] and f"service {place['SERVICE']}"
    if place["NAME"]:
        port = f":{place['PORT']}" if place["PORT"] else ""
        where = f"{place['NAME']} on {place['HOST'] or 'this host'}{port}"
    name = getattr(settings, "SETTINGS_MODULE", None)
    return f"{alias!r} ({where}{f', {name}' if name else ''})"


def runtime_dir() -> Path:
    """Return the runtime folder, made if need be; it is private to this user.

    It is the setting `POOLED_PG_RUNTIME_DIR` (an absolute path, whose parent exists) or else
    `<temporary folder>/django_pooled_pg-<uid>/<key>`, where the key stands for the deployment:
    the settings module, its file, and where the databases are. Not `XDG_RUNTIME_DIR`: a shell has
    it, the workers that systemd started have not, and they'd look for each other in different
    places. For the same reason the setting is needed with systemd's `PrivateTmp`, or where TMPDIR
    differs.

    Raises `RuntimeDirError`.
    """
    return _made(_folders(_key()))


def shared_dir() -> Path:
    """Return the folder that all deployments of this user share, made if need be.

    It is the setting `POOLED_PG_RUNTIME_DIR`, or else the parent of the runtime folder: so workers
    with a settings module of their own find the site's there. Raises `RuntimeDirError`.
    """
    return _made(_folders())


def _folders(*key: str) -> list[Path]:
    """Return the folder, and before it those above that are ours, too."""
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
        pass  # the latter of a text that no path can have
    raise RuntimeDirError("POOLED_PG_RUNTIME_DIR is not a path: give an absolute one, or None.")


def _key() -> str:
    # Without a settings module (settings.configure()) the databases alone tell programs apart.
    name = getattr(settings, "SETTINGS_MODULE", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    module = [name, os.path.realpath(file) if file else ""]
    identity = repr([module, sorted((_noted or _databases()).items())])
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:8]


def _databases() -> dict[str, dict[str, str]]:
    return {alias: _place(database) for alias, database in settings.DATABASES.items()}


def _place(database: dict[str, Any]) -> dict[str, str]:
    options = database.get("OPTIONS")
    # One that is no dict is told by a check, which comes later.
    said = options.get("service") if isinstance(options, dict) else None
    service = said or os.environ.get("PGSERVICE", "")
    found = {
        name: str(database.get(name) or os.environ.get(variable, ""))
        for name, variable in _PLACE.items()
    }
    return {**found, "SERVICE": str(service)}


def _refuse_open_parents(folder: Path) -> None:
    # Whoever may rename what is on the way to the socket can put a folder of their own there,
    # between our look at it and our next step.
    real = Path(os.path.realpath(folder))
    for parent in (real, *real.parents):
        try:
            mode = parent.stat().st_mode
        except OSError:
            continue  # what is wrong with it, the attempt to make a folder there tells
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
        pass  # looked at below, like one just made
    except OSError as ex:
        raise RuntimeDirError(f"'{folder}' can't be made: {ex.strerror}. {_HINT}") from ex
    try:
        # lstat: a symbolic link that somebody else put here must not lead us astray.
        status = folder.lstat()
    except OSError as ex:
        raise RuntimeDirError(f"'{folder}' can't be looked at: {ex.strerror}. {_HINT}") from ex
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeDirError(f"'{folder}' is not a folder (links are refused too). {_HINT}")
    if status.st_uid != os.geteuid():
        raise RuntimeDirError(
            f"'{folder}' belongs to user {status.st_uid}, not to user {os.geteuid()}. {_HINT}"
        )
    if status.st_mode & 0o077:
        raise RuntimeDirError(
            f"'{folder}' is open to other users (mode {stat.S_IMODE(status.st_mode):04o}). "
            f"Run: chmod 700 '{folder}'"
        )
