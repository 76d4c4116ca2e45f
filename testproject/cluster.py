"""Runs one PostgreSQL server: init, start, stop, promote, destroy.

Knows nothing of Django. `programs.py` knows where the programs are and as whom they run,
`keeper.py` how long a server may live.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from testproject import keeper, programs
from testproject.ports import free_port, is_free
from testproject.programs import MAJOR, EmbeddedError

ROOT = Path(__file__).resolve().parent.parent
SUPERUSER = "postgres"
START_TIMEOUT = 60  # seconds

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    # The data may be lost with the machine, but not with the server: commits reach the kernel.
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    # Lets a standby catch up without a replication slot.
    "wal_keep_size": "64MB",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Cluster:
    """One PostgreSQL server with its data, reachable on 127.0.0.1 as `postgres` without password.

    Without a `folder`, it lives in a temporary one, which `destroy` (or the end of this process)
    removes. The server stops when the process that started it is gone, however that ended.
    The server gets `settings` at each start, so a change takes effect with `restart`.
    """

    _locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    _binaries = staticmethod(programs.binaries)

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="testproject-postgresql-"))
        programs.make_folder(self.folder)
        self.data = self.folder / "data"
        self.log = self.data / "server.log"
        self.settings = {**SETTINGS, **(settings or {})}
        self.env = dict(env or {})
        self._port: int | None = None
        self._hold: keeper.Hold | None = None

    def __enter__(self) -> Cluster:
        try:
            self.init()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.temporary:
            self.destroy()
        else:
            self.release()

    # Where it is

    @property
    def port(self) -> int:
        """The server's port: chosen at its first start and kept from then on."""
        if self._port is None:
            raise EmbeddedError("The server was not started yet, so it has no port.")
        return self._port

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={SUPERUSER} dbname=postgres"

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgres://{SUPERUSER}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    # Its life

    def init(self) -> None:
        """Make the data folder, unless there is a complete one of this version."""
        self.keep()
        if self._initialised():
            return
        self._make_data_folder()
        self._run(
            "initdb",
            f"--username={SUPERUSER}",
            "--auth-host=trust",
            "--auth-local=reject",
            "--encoding=UTF8",
            *self._locale,
            "--no-sync",
            "--no-instructions",
        )
        self._complete.write_text(MAJOR)

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it accepts connections."""
        self.keep()
        if self.running():
            self._port = self._last_port()
            return self._wait_ready()
        if self._port is not None:
            return self._start_on(self._port)
        for port in (self._last_port() or free_port(), *(free_port() for _ in range(4))):
            # Before the start: whoever finds the server running must find its port, too.
            self._port_file.write_text(str(port))
            try:
                self._start_on(port)
            except EmbeddedError:
                # Somebody else may have this port; otherwise, another one wouldn't help.
                if is_free(port):
                    raise
            else:
                self._port = port
                return
        raise EmbeddedError("No free port was found on 127.0.0.1.")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server, if it runs; to clients, `immediate` looks like a crash."""
        if self.running():
            self._run("pg_ctl", "stop", f"--mode={mode}", "--wait")

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self._run("pg_ctl", "promote", "--wait")

    def running(self) -> bool:
        return (self.data / "PG_VERSION").exists() and (
            self._run("pg_ctl", "status", check=False).returncode == 0
        )

    def standby(self, folder: Path | None = None) -> Cluster:
        """Return a new streaming standby of this server, started."""
        standby = Cluster(folder, settings=self.settings, env=self.env)
        try:
            standby._make_data_folder()
            standby._run(
                "pg_basebackup",
                f"--dbname={self.dsn}",
                "--write-recovery-conf",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--no-sync",
            )
            standby._complete.write_text(MAJOR)
            standby.start()
        except BaseException:
            standby.destroy()
            raise
        return standby

    def create_database(self, name: str) -> None:
        """Create a database, unless it exists."""
        import psycopg  # not at the top: the watching process does without it
        from psycopg import errors, sql

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
            if not found.rowcount:
                # The loser of a race between two processes gets the second error.
                with contextlib.suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def destroy(self) -> None:
        """Stop the server and remove its folder, unless another process uses it."""
        if self._hold is None:
            self._remove()
        else:
            self._hold.release(self._remove)
            self._hold = None

    def keep(self) -> None:
        """Keep the server alive as long as this process and its forked children."""
        if self._hold is None:
            watcher = [sys.executable, "-m", "testproject.cluster", str(self.folder)]
            watcher += ["--remove"] if self.temporary else []
            self._hold = keeper.Hold(self.folder, watcher, cwd=ROOT)

    def release(self) -> None:
        """Undo `keep`; if this was the last user of the folder, the server is stopped."""
        if self._hold is not None:
            self._hold.release(self.stop)
            self._hold = None

    # Within

    @property
    def _complete(self) -> Path:
        return self.folder / "complete"

    @property
    def _port_file(self) -> Path:
        return self.folder / "port"

    def _initialised(self) -> bool:
        return self._complete.exists() and self._complete.read_text() == MAJOR

    def _make_data_folder(self) -> None:
        self._complete.unlink(missing_ok=True)
        if self.data.exists():
            shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)
        if user := programs.server_user():
            os.chown(self.data, user.pw_uid, user.pw_gid)

    def _last_port(self) -> int | None:
        return int(self._port_file.read_text()) if self._port_file.exists() else None

    def _start_on(self, port: int) -> None:
        options = shlex.join(f"--{key}={value}" for key, value in self.settings.items())
        self._run(
            "pg_ctl",
            "start",
            "--wait",
            f"--timeout={START_TIMEOUT}",
            f"--log={self.log}",
            f"--options={options} --port={port}",
        )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        pg_isready = str(self._binaries() / "pg_isready")
        while programs.run([pg_isready, f"--dbname={self.dsn}"]).returncode:
            if time.monotonic() > deadline:
                raise EmbeddedError(f"The server does not answer.\n{self._log_tail()}")
            time.sleep(0.05)

    def _remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def _run(
        self, program: str, *args: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        # PG* variables are meant for clients of other servers.
        env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        command = [str(self._binaries() / program), *args, f"--pgdata={self.data}"]
        done = programs.run(command, env={**env, "LC_ALL": "C", **self.env})
        if check and done.returncode:
            raise EmbeddedError(
                f"{program} failed:\n{done.stdout}{done.stderr}\n{self._log_tail()}".rstrip()
            )
        return done

    def _log_tail(self) -> str:
        if not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"{self.log} ends with:", *lines[-20:]])


def _watch(folder: str, *rest: str) -> None:
    cluster = Cluster(Path(folder))

    def stop() -> None:
        cluster.stop()
        if "--remove" in rest:
            shutil.rmtree(cluster.folder, ignore_errors=True)

    keeper.watch(cluster.folder, int(rest[-1]), stop)


if __name__ == "__main__":
    _watch(*sys.argv[1:])
