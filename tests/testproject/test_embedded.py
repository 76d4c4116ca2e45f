"""Tests testproject/embedded.py and what stands behind it, with real servers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from testproject.embedded import Cluster, EmbeddedError
from tests.support.processes import ROOT, environment
from tests.support.waiting import wait_until

USER = """\
import os, sys
from pathlib import Path
from testproject.embedded import shared_cluster
print(shared_cluster(Path(sys.argv[1])).port, flush=True)
"""
WAIT_FOR_INPUT = "sys.stdin.readline()\n"


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kept_folder() -> Iterator[Path]:
    # Not tmp_path: the server's user must be able to pass through all parents.
    folder = Path(tempfile.mkdtemp(prefix="testproject-postgresql-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(kept_folder: Path) -> Iterator[Path]:
    """A folder for a shared server, which has to be stopped at the end of each test."""
    yield kept_folder
    wait_until(lambda: not Cluster(kept_folder).running())


def query(cluster: Cluster, sql: str) -> Any:
    with closing(psycopg.connect(cluster.dsn, autocommit=True)) as connection:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0]


def execute(cluster: Cluster, sql: str) -> None:
    with closing(psycopg.connect(cluster.dsn, autocommit=True)) as connection:
        connection.execute(sql)


def start_user(folder: Path, script: str = WAIT_FOR_INPUT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER + script, str(folder)],
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate("\n", timeout=30)
    assert process.returncode == 0
    return out


def test_a_restart_keeps_port_and_data(primary: Cluster) -> None:
    execute(primary, "CREATE TABLE kept AS SELECT 1 AS x")
    port = primary.port
    primary.restart("immediate")
    assert primary.port == port
    assert query(primary, "SELECT x FROM kept") == 1


def test_settings_take_effect_with_a_restart(primary: Cluster) -> None:
    primary.settings["log_line_prefix"] = "it's %p $HOME "
    primary.restart()
    assert query(primary, "SHOW log_line_prefix") == "it's %p $HOME "


def test_a_standby_follows_and_is_promoted(primary: Cluster) -> None:
    with primary.standby() as standby:
        assert query(standby, "SELECT pg_is_in_recovery()")
        execute(primary, "CREATE TABLE followed ()")
        wait_until(lambda: query(standby, "SELECT to_regclass('followed') IS NOT NULL"))
        standby.promote()
        execute(standby, "CREATE TABLE written_here ()")
    assert not standby.folder.exists()


def test_a_database_is_created_once(primary: Cluster) -> None:
    primary.create_database('odd "name"')
    primary.create_database('odd "name"')
    with closing(psycopg.connect(primary.url_of('odd "name"'))) as connection:
        assert connection.info.dbname == 'odd "name"'


def test_a_failed_start_shows_the_log() -> None:
    cluster = Cluster(settings={"shared_buffers": "nonsense"})
    cluster.init()
    with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'):
        cluster.start()
    cluster.destroy()
    assert not cluster.folder.exists()


def test_an_unfinished_init_is_done_anew() -> None:
    cluster = Cluster()
    cluster.data.mkdir()
    (cluster.data / "PG_VERSION").write_text("9")
    with cluster:
        assert query(cluster, "SELECT 1") == 1


def test_the_last_of_several_users_stops_the_server(folder: Path) -> None:
    users = [start_user(folder) for _ in range(3)]
    ports = {user.stdout.readline() for user in users if user.stdout}
    assert len(ports) == 1
    for user in users[:-1]:
        finish(user)
    assert Cluster(folder).running()
    finish(users[-1])
    # At once, not only when the watcher comes round to it.
    assert not Cluster(folder).running()
    assert finish(start_user(folder, "")) in ports


def test_a_killed_user_leaves_no_server(folder: Path) -> None:
    user = start_user(folder)
    assert user.stdout is not None
    user.stdout.readline()
    user.kill()
    user.communicate()
    wait_until(lambda: not Cluster(folder).running())


def test_a_server_can_be_had_again_while_it_stops(folder: Path) -> None:
    for _ in range(2):
        user = start_user(folder)
        assert user.stdout is not None
        user.stdout.readline()
        user.kill()
        user.communicate()
        ask = "import psycopg; psycopg.connect(shared_cluster(Path(sys.argv[1])).dsn).close()\n"
        finish(start_user(folder, ask))


def test_a_killed_process_leaves_nothing_of_its_own_cluster() -> None:
    script = "cluster = Cluster(); cluster.init(); cluster.start(); print(cluster.folder)"
    kill = "import os, sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", f"from testproject.embedded import Cluster; {script}; {kill}"],
        env=environment(),
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not Path(done.stdout.strip()).exists())


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)"])
def test_a_forked_child_does_not_stop_its_parents_server(folder: Path, end: str) -> None:
    script = f"""\
if not os.fork():
    {end}
os.wait()
import psycopg
psycopg.connect(shared_cluster(Path(sys.argv[1])).dsn).close()
"""
    finish(start_user(folder, script))


def test_a_forked_child_may_outlive_its_parent(folder: Path) -> None:
    script = """\
reading, writing = os.pipe()
if os.fork():
    sys.exit()
sys.stdin.readline()
import psycopg
psycopg.connect(shared_cluster(Path(sys.argv[1])).dsn).close()
"""
    user = start_user(folder, script)
    user.wait(30)
    assert Cluster(folder).running()
    finish(user)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_works_for_an_ordinary_user() -> None:
    nobody = pwd.getpwnam("nobody")
    script = "from testproject.embedded import Cluster\nwith Cluster() as c: print(c.url)\n"

    def as_nobody(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script],
            env=environment(PYTHONDONTWRITEBYTECODE="1"),
            cwd="/",
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )

    try:
        reachable = as_nobody("import testproject.embedded, psycopg").returncode == 0
    except PermissionError:
        reachable = False
    if not reachable:
        pytest.skip(f"{nobody.pw_name} can't reach {sys.executable} or {ROOT}")
    done = as_nobody(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("postgres://")
