"""Owns the folder in which the processes of one project and user find each other.

Must not trust what it finds there: everybody may write to the temporary folder around it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from django.conf import settings

# What the operating system takes as the path of a Unix socket, in bytes.
_SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
# "/", a process id, "-", a token, ".sock"
_SOCKET_NAME_ROOM = 22

_HINT = "Set POOLED_PG_RUNTIME_DIR to a folder that only this user can use."


class RuntimeDirError(OSError):
    """The runtime folder can't be made, or isn't private to this user.

    An `OSError`, as whatever else can go wrong with files and sockets there.
    """


def runtime_dir() -> Path:
    """Return the runtime folder, made if need be; it is private to this user.

    It is the setting `POOLED_PG_RUNTIME_DIR` (an absolute path, whose parent exists) or else
    `<temporary folder>/django_pooled_pg-<uid>/<key>`, where the key stands for the settings
    module and its file. Not `XDG_RUNTIME_DIR`: a shell has it, the workers that systemd
    started have not, and they'd look for each other in different places. For the same reason
    the setting is needed with systemd's `PrivateTmp`, or where TMPDIR differs.

    Raises `RuntimeDirError`.
    """
    configured = getattr(settings, "POOLED_PG_RUNTIME_DIR", None)
    if configured is not None:
        path = Path(configured)
        if not path.is_absolute():
            raise RuntimeDirError(f"POOLED_PG_RUNTIME_DIR is not an absolute path: '{path}'.")
        folders = [path]
    else:
        ours = Path(tempfile.gettempdir(), f"django_pooled_pg-{os.geteuid()}")
        path = ours / _project_key()
        folders = [ours, path]
    limit = _SOCKET_PATH_LIMIT - _SOCKET_NAME_ROOM
    if (length := len(os.fsencode(path))) > limit:
        raise RuntimeDirError(
            f"'{path}' is too long for Unix sockets: {length} bytes, at most {limit} are "
            "possible. Set POOLED_PG_RUNTIME_DIR to a shorter path."
        )
    for folder in folders:
        _make_private(folder)
    return path


def _project_key() -> str:
    # Without a settings module (settings.configure()) all such programs of the user share one.
    name = getattr(settings, "SETTINGS_MODULE", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    identity = f"{name}\0{os.path.realpath(file) if file else ''}"
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:8]


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
