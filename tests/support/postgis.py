"""A server with PostGIS: that of DATABASE_URL if it has it, or else one of Debian's programs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg

from testproject.cluster import Cluster

MISSING = "PostGIS isn't installed: apt-get install postgresql-15-postgis-3 gdal-bin"


def programs() -> Path | None:
    """Return the folder with Debian's newest PostgreSQL that has PostGIS."""
    controls = Path("/usr/share/postgresql").glob("*/extension/postgis.control")
    versions = sorted((int(path.parts[4]) for path in controls), reverse=True)
    folders = (Path(f"/usr/lib/postgresql/{version}/bin") for version in versions)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class DebianCluster(Cluster):
    """A server with Debian's extensions. The embedded one has next to none."""

    _locale = ("--locale=C.UTF-8",)

    @staticmethod
    def _binaries() -> Path:
        found = programs()
        assert found is not None, MISSING
        return found


@contextlib.contextmanager
def server() -> Iterator[str | None]:
    """Yield the URL of a server with PostGIS, while it runs; `None` where there is none."""
    url = os.environ.get("DATABASE_URL")
    if url and _has_postgis(url):
        yield url
    elif programs() is None:
        yield None
    else:
        with DebianCluster() as cluster:
            yield cluster.url


def _has_postgis(url: str) -> bool:
    with psycopg.connect(url) as connection:
        sql = "SELECT FROM pg_available_extensions WHERE name = 'postgis'"
        return bool(connection.execute(sql).rowcount)
