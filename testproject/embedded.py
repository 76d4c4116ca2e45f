"""The entrance to embedded PostgreSQL: throw-away clusters, and the one that all processes share.

Knows nothing of Django.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
from pathlib import Path

from testproject import keeper, programs
from testproject.cluster import ROOT, Cluster
from testproject.programs import EmbeddedError

__all__ = ["Cluster", "EmbeddedError", "database_url", "default_folder", "shared_cluster"]


def shared_cluster(folder: Path | None = None) -> Cluster:
    """Return the server that all processes of this project share; starts it if needed.

    It stops when the last process that uses it ends. The data stay.
    """
    return _shared_cluster(folder or default_folder())


def database_url(name: str) -> str:
    """Return `DATABASE_URL` or, without it, the URL of a database of the shared server.

    Creates that database if it doesn't exist.
    """
    if url := os.environ.get("DATABASE_URL"):
        return url
    cluster = shared_cluster()
    cluster.create_database(name)
    return cluster.url_of(name)


def default_folder() -> Path:
    """Return where this user's server for this copy of the project lives.

    Not in the project, where `nobody` often can't reach it.
    """
    project = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    return programs.user_folder() / project


@functools.cache
def _shared_cluster(folder: Path) -> Cluster:
    cluster = Cluster(folder)
    with keeper.locked(folder / "start.lock"):
        cluster.keep()
        cluster.init()
        cluster.start()
    # The watcher would do it, too, but only a little after this process is gone.
    atexit.register(cluster.release)
    return cluster
