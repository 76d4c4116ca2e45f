"""PgBouncer in front of the tests' server, and the settings from its page in docs."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.pool import Pool
from testproject.ports import free_port
from tests.support.processes import ROOT
from tests.support.queries import backend_pid, connect
from tests.support.waiting import wait_until

PAGE = (ROOT / "docs/pgbouncer.md").read_text()
(INI,) = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)


def _site(block: str) -> dict[str, Any]:
    site: dict[str, Any] = {}
    exec(block, site)
    return site


# That keeps connections, and that keeps none.
KEPT, NULL = map(_site, re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
BOTH = pytest.mark.parametrize("site", [KEPT, NULL], ids=["pool", "null"])

MakeBouncer = Callable[..., "PgBouncer"]
MakeSite = Callable[..., DatabaseWrapper]
ALIAS = "behind"

# Of those who come without one: the server trusts them, PgBouncer may not.
PASSWORD = "of-the-clients"


class PgBouncer:
    """PgBouncer on a port of 127.0.0.1, in front of the server of `database`; a context manager.

    `settings` are those of DATABASES for a site behind it. `ini` is a configuration as a site has
    it: the addresses and files in it are replaced by the test's, and `changes` are made to it.
    """

    def __init__(
        self, folder: Path, database: Mapping[str, Any], ini: str = "[pgbouncer]", **changes: object
    ) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if program is None:
            pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
        # It doesn't run as root.
        self._command = [program, *(["-u", "nobody"] if os.geteuid() == 0 else [])]
        self._ini, self._log = folder / "pgbouncer.ini", folder / "pgbouncer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.settings: dict[str, Any] = {
            "HOST": "127.0.0.1",
            "PORT": str(free_port()),
            "NAME": database["NAME"],
            "USER": database["USER"],
            "PASSWORD": database["PASSWORD"] or PASSWORD,
        }
        users = folder / "userlist.txt"
        users.write_text(self._secret(database))
        config = configparser.ConfigParser(interpolation=None)
        config.read_string(ini)
        server = f"host={database['HOST']} port={database['PORT']}"
        if database["PASSWORD"]:
            server += f" user={database['USER']} password={database['PASSWORD']}"
        for line in dict(config["databases"]).values() if "databases" in config else ():
            server += "".join(f" {word}" for word in line.split() if not word.startswith("host="))
        config["databases"] = {"*": server}
        config["pgbouncer"].update(
            {
                "listen_addr": "127.0.0.1",
                "listen_port": self.settings["PORT"],
                "unix_socket_dir": "",
                "auth_file": str(users),
                "admin_users": self.settings["USER"],
                **{name: str(value) for name, value in changes.items()},
            }
        )
        with self._ini.open("w") as file:
            config.write(file)

    def _secret(self, database: Mapping[str, Any]) -> str:
        user, password = self.settings["USER"], self.settings["PASSWORD"]
        with connect(database, user=user) as connection:
            secret = connection.pgconn.encrypt_password(
                password.encode(), user.encode(), b"scram-sha-256"
            )
        return f'"{user}" "{secret.decode()}"\n'

    def __enter__(self) -> PgBouncer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("a") as log:
            command = [*self._command, str(self._ini)]
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log)

        def answers() -> bool:
            assert process.poll() is None, self._log.read_text()
            try:
                self.console("SHOW VERSION")
            except psycopg.OperationalError:
                return False
            return True

        try:
            wait_until(answers, within=30)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it, as a crash does; a polite end may wait for its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    @property
    def version(self) -> tuple[int, ...]:
        (row,) = self.console("SHOW VERSION")
        return tuple(map(int, row["version"].removeprefix("PgBouncer ").split(".")))

    def console(self, command: str) -> list[dict[str, Any]]:
        """Run a command of the administrator's; return what it shows."""
        with connect(
            self.settings,
            dbname="pgbouncer",
            # The console understands nothing else.
            cursor_factory=psycopg.ClientCursor[dict[str, Any]],
            row_factory=dict_row,
        ) as connection:
            cursor = connection.execute(command)
            return cursor.fetchall() if cursor.description else []


def pool_of(wrapper: DatabaseWrapper) -> Pool:
    assert wrapper.pool is not None
    return wrapper.pool


@contextmanager
def transaction(wrapper: DatabaseWrapper) -> Iterator[int]:
    """A transaction that holds a session of the server; yields its process id."""
    wrapper.set_autocommit(False)
    try:
        yield backend_pid(wrapper)
    finally:
        wrapper.rollback()
        wrapper.set_autocommit(True)
