"""The PostgreSQL servers that the contestants connect to, and the ways to reach them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from .. import programs
from ..cluster import ROOT, Cluster
from ..database import from_url
from .contestants import Settings

# All contestants of a measure are alive at once, each with its connections.
MAX_CONNECTIONS = "300"
SOCKET, TCP, TLS = "Unix socket", "TCP", "TLS"
# Words that reveal nothing, or that errors are full of.
PUBLIC = {"", "/", "127.0.0.1", "localhost", "postgres"}


class NotHere(Exception):
    """The server can't be reached this way; the message says why."""


class Servers:
    """The server of a URL or, without one, the embedded one. Starts only what is asked for."""

    def __init__(self, url: str | None, stack: ExitStack) -> None:
        self._given = from_url(url) if url else None
        self._stack = stack

    @cached_property
    def main(self) -> Settings:
        return self._given or _address(self._embedded)

    def address(self, way: str) -> Settings:
        """Return where the server is when reached this way; raise `NotHere` if it can't be."""
        if self._given is not None:
            return self._of_given(self._given, way)
        if way == TCP:
            return self.main
        if way == SOCKET:
            return {**self.main, "HOST": str(_socket_folder(self._embedded))}
        return {**_address(self._tls), "OPTIONS": {"sslmode": "require"}}

    @cached_property
    def _embedded(self) -> Cluster:
        cluster = Cluster(settings={"max_connections": MAX_CONNECTIONS})
        folder = _socket_folder(cluster)
        folder.mkdir(mode=0o700)
        if user := programs.server_user():
            os.chown(folder, user.pw_uid, user.pw_gid)
        cluster.settings["unix_socket_directories"] = str(folder)
        cluster.settings["unix_socket_permissions"] = "0700"
        self._stack.callback(cluster.destroy)
        cluster.init()
        (cluster.data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 127.0.0.1/32 trust\n"
        )
        cluster.start()
        return cluster

    @cached_property
    def _tls(self) -> Cluster:
        return self._stack.enter_context(_tls_cluster())

    def _of_given(self, given: Settings, way: str) -> Settings:
        options = given["OPTIONS"]
        if way == SOCKET:
            with observer(given) as connection:
                row = connection.execute("SHOW unix_socket_directories").fetchone()
            folder = str(row[0]).split(",")[0].strip() if row else ""
            if not folder:
                raise NotHere("The server listens on no Unix socket.")
            address = {**given, "HOST": folder, "OPTIONS": _without_tls(options)}
        elif way == TCP:
            host = given["HOST"] if given["HOST"] and given["HOST"][0] != "/" else "127.0.0.1"
            address = {**given, "HOST": host, "OPTIONS": {**options, "sslmode": "disable"}}
        else:
            address = {**given, "OPTIONS": {**options, "sslmode": "require"}}
        try:
            observer(address).close()
        except psycopg.Error as ex:
            raise NotHere(neutral(str(ex), address)) from ex
        return address


def observer(address: Settings) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection for the benchmark itself."""
    given: dict[str, Any] = {
        "host": address["HOST"],
        "port": address["PORT"],
        "user": address["USER"],
        "password": address["PASSWORD"],
        "dbname": address["NAME"],
        **address["OPTIONS"],
        "application_name": "bench",
    }
    conninfo = make_conninfo(**{key: value for key, value in given.items() if value != ""})
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=10)


def neutral(text: str, address: Settings) -> str:
    """Return an error's text on one line, without anything private."""
    private = {str(address[key]) for key in ("HOST", "USER", "PASSWORD", "NAME")}
    private |= {str(ROOT), sys.prefix, str(Path.home())}
    for each in sorted(private - PUBLIC, key=len, reverse=True):
        text = text.replace(each, "...")
    return " ".join(text.split())


def version(address: Settings) -> str:
    with observer(address) as connection:
        number = connection.info.server_version
    return f"{number // 10000}.{number % 10000}"


def connections(observing: psycopg.Connection[tuple[Any, ...]], application_name: str) -> int:
    """Return how many connections of a contestant the server has."""
    row = observing.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [application_name]
    ).fetchone()
    assert row is not None
    return int(row[0])


def _address(cluster: Cluster) -> Settings:
    return from_url(cluster.url)


def _socket_folder(cluster: Cluster) -> Path:
    return cluster.folder / "socket"


def _without_tls(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if not key.startswith("ssl")}


# TLS: the embedded server has none, so an installed PostgreSQL takes its place.


class _InstalledCluster(Cluster):
    """A server of an installed PostgreSQL, of whatever version."""

    def _run(
        self, program: str, *args: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        # initdb of version 16 and older doesn't know these.
        known = [arg for arg in args if not re.match("--(locale-provider|builtin-locale)=", arg)]
        command = [str(_installed() / program), *known, f"--pgdata={self.data}"]
        done = programs.run(command, env={**os.environ, "LC_ALL": "C"})
        if check and done.returncode:
            raise NotHere(f"{program} of the installed PostgreSQL failed: {done.stderr}")
        return done


def _installed() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    program = Path(os.path.realpath(on_path)) if on_path else found[-1] if found else None
    if program is None or not (program.parent / "initdb").exists():
        raise NotHere("The embedded server has no TLS, and no other PostgreSQL is installed.")
    return program.parent


@contextmanager
def _tls_cluster() -> Iterator[Cluster]:
    _installed()
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NotHere("There is no openssl to make a certificate with.")
    with ExitStack() as stack:
        cluster = _InstalledCluster(settings={"max_connections": MAX_CONNECTIONS, "ssl": "on"})
        stack.callback(cluster.destroy)
        cluster.init()
        key, certificate = cluster.data / "server.key", cluster.data / "server.crt"
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        key.chmod(0o600)
        if user := programs.server_user():
            for path in (key, certificate):
                os.chown(path, user.pw_uid, user.pw_gid)
        cluster.start()
        yield cluster
