"""Fresh credentials for each new connection, and no secret where it doesn't belong.

Also what `client.py` gives `manage.py dbshell`.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring.snapshot import process_snapshot
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.untold import Untold
from testproject.embedded import Cluster
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until

SECRETS = ["s3cret-one", "s3cret-two"]

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def server(server: Cluster) -> Iterator[Cluster]:
    """The server, with a role that needs a password."""
    access = server.data / "pg_hba.conf"
    before = access.read_text()
    access.write_text("host all rotated all scram-sha-256\n" + before)
    server.restart()
    yield server
    access.write_text(before)
    server.restart()


@pytest.fixture
def admin(server: Cluster, make_wrapper: MakeWrapper) -> DatabaseWrapper:
    admin = make_wrapper(HOST="127.0.0.1", PORT=str(server.port), NAME="postgres")
    with admin.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS rotated")
        cursor.execute(f"CREATE ROLE rotated LOGIN PASSWORD '{SECRETS[0]}'")
    return admin


@pytest.fixture
def rotating(admin: DatabaseWrapper, make_wrapper: MakeWrapper) -> Callable[..., DatabaseWrapper]:
    def make(pool: Any = None, **settings: Any) -> DatabaseWrapper:
        where = {name: admin.settings_dict[name] for name in ("HOST", "PORT", "NAME")}
        return make_wrapper(
            pool={"max_size": 2, **(pool or {})}, USER="rotated", **where, **settings
        )

    return make


def rotate(admin: DatabaseWrapper) -> None:
    with admin.cursor() as cursor:
        cursor.execute(f"ALTER ROLE rotated PASSWORD '{SECRETS[1]}'")


@pytest.mark.parametrize("way", ["PASSWORD", "credentials"])
def test_a_rotated_password_costs_no_request(
    admin: DatabaseWrapper, rotating: Callable[..., DatabaseWrapper], way: str
) -> None:
    current = [SECRETS[0]]
    asked = []

    def password() -> str:
        asked.append(current[0])
        return current[0]

    if way == "PASSWORD":
        wrapper = rotating(PASSWORD=password)
    else:
        wrapper = rotating({"credentials": lambda: {"password": password()}})
    pid = backend_pid(wrapper)
    wrapper.close()
    rotate(admin)
    current[0] = SECRETS[1]
    assert backend_pid(wrapper) == pid, "what is open goes on"
    wrapper.close()
    assert wrapper.pool is not None
    wrapper.pool.drain()
    assert backend_pid(wrapper) != pid
    assert asked[0] == SECRETS[0]
    assert set(asked[1:]) == {SECRETS[1]}


def test_a_password_is_asked_for_when_a_session_is_made_not_when_it_is_reset(
    rotating: Callable[..., DatabaseWrapper],
) -> None:
    asked = []

    def password() -> str:
        asked.append(1)
        return SECRETS[0]

    wrapper = rotating({"max_size": 1, "reset": "always"}, PASSWORD=password)
    pid = backend_pid(wrapper)
    wrapper.close()
    assert backend_pid(wrapper) == pid
    assert wrapper.pool is not None
    wrapper.close()
    wait_until(lambda: wrapper.pool.statistics().resets >= 2)  # type: ignore[union-attr]
    assert len(asked) == 1


def test_a_lent_connection_is_drained_when_it_returns(
    rotating: Callable[..., DatabaseWrapper],
) -> None:
    wrapper = rotating(PASSWORD=SECRETS[0])
    pid = hold(wrapper)
    assert wrapper.pool is not None
    wrapper.pool.drain()
    assert backend_pid(wrapper) == pid
    wrapper.close()
    assert backend_pid(wrapper) != pid


@pytest.mark.parametrize("way", ["PASSWORD", "credentials"])
@pytest.mark.parametrize("kind", [RuntimeError, psycopg.OperationalError, ImproperlyConfigured])
def test_credentials_that_fail_are_told_at_once_but_not_what_they_say(
    rotating: Callable[..., DatabaseWrapper],
    caplog: pytest.LogCaptureFixture,
    way: str,
    kind: type[Exception],
) -> None:
    def vault() -> Any:
        raise kind(f"sealed, the last token was {SECRETS[0]}")

    caplog.set_level(logging.INFO)
    if way == "PASSWORD":
        wrapper = rotating({"timeout": 30}, PASSWORD=vault)
    else:
        wrapper = rotating({"credentials": vault, "timeout": 30})
    with pytest.raises(OperationalError) as caught:
        wrapper.ensure_connection()
    assert f"can't connect: '{way}' raised {kind.__name__} (" in str(caught.value)
    cause: BaseException | None = caught.value
    while cause is not None and type(cause) is not kind:
        cause = cause.__cause__
    assert type(cause) is kind
    with pytest.raises(Untold, match=f"'{way}' raised {kind.__name__}"):
        wrapper.client.settings_to_cmd_args_env(wrapper.settings_dict, [])
    assert SECRETS[0] not in "".join(traceback.format_exception(caught.value))
    assert SECRETS[0] not in caplog.text


def test_no_secret_is_told(
    admin: DatabaseWrapper,
    rotating: Callable[..., DatabaseWrapper],
    make_wrapper: MakeWrapper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[object] = []
    wrapper = rotating(PASSWORD=SECRETS[0])
    backend_pid(wrapper)
    told += [repr(wrapper.pool), repr(wrapper), repr(wrapper.connection)]
    assert wrapper.pool is not None
    told += [repr(lease) for lease in wrapper.pool.leases()]
    told += [json.dumps(process_snapshot()), repr(wrapper.pool.statistics())]
    rotate(admin)
    fetch(admin, "SELECT pg_terminate_backend(%s)", [backend_pid(wrapper)])
    with pytest.raises(OperationalError) as lost:
        backend_pid(wrapper)
    wrapper.close()
    with pytest.raises(OperationalError, match="password authentication failed") as refused:
        backend_pid(wrapper)
    with pytest.raises(OperationalError) as nowhere:
        rotating(PASSWORD=SECRETS[0], OPTIONS={"sslmode": "require"}).cursor()
    with pytest.raises(ImproperlyConfigured) as misconfigured:
        rotating({"maxsize": 1}, PASSWORD=SECRETS[0]).cursor()
    for error in (lost, refused, nowhere, misconfigured):
        told += [str(error.value), repr(error.value.__cause__)]
    wait_until(lambda: len(caplog.records) >= 3, within=30)  # the pools go on trying
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 15
    for secret in SECRETS:
        assert not [text for text in told if secret in str(text)]


def test_dbshell_gets_the_password_too(rotating: Callable[..., DatabaseWrapper]) -> None:
    wrapper = rotating(PASSWORD=lambda: SECRETS[0])
    _, env = wrapper.client.settings_to_cmd_args_env(wrapper.settings_dict, [])
    assert env is not None
    assert env["PGPASSWORD"] == SECRETS[0]


@pytest.mark.parametrize("way", ["PASSWORD", "credentials"])
def test_what_creates_test_databases_gets_the_password_too(
    rotating: Callable[..., DatabaseWrapper], way: str
) -> None:
    if way == "PASSWORD":
        wrapper = rotating(PASSWORD=lambda: SECRETS[0])
    else:
        wrapper = rotating({"credentials": lambda: {"password": SECRETS[0]}})
    with wrapper._nodb_cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("rotated",)


def test_a_file_that_is_rotated_under_load_costs_no_request(
    admin: DatabaseWrapper,
    rotating: Callable[..., DatabaseWrapper],
    tmp_path: Path,
    django_db_blocker: Any,
) -> None:
    """As Kubernetes does it: a new file in place of the old one, after the server has the password.

    Meanwhile no connection can be made; one that works is why nobody is told.
    """
    path = tmp_path / "password"
    path.write_text(SECRETS[0])
    credentials = {"provider": "file", "path": str(path)}
    pool = {"credentials": credentials, "max_size": 4, "max_lifetime": 0.2}
    settings = rotating(pool).settings_dict
    errors: list[Exception] = []
    pids: set[int] = set()
    stop = threading.Event()

    def requests() -> None:
        with django_db_blocker.unblock():
            while not stop.is_set():
                wrapper = DatabaseWrapper(settings, "rotated_file")
                try:
                    pids.add(backend_pid(wrapper))
                except Exception as ex:
                    errors.append(ex)
                wrapper.close()

    report = DatabaseWrapper(settings, "rotated_file")
    hold(report)
    threads = [threading.Thread(target=requests) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            before = len(pids)
            password = f"s3cret-{number}"
            with admin.cursor() as cursor:
                cursor.execute(f"ALTER ROLE rotated PASSWORD '{password}'")
            path.with_name("new").write_text(f"{password}\n")
            path.with_name("new").rename(path)
            wait_until(lambda before=before: len(pids) >= before + 4, within=30)  # type: ignore[misc]  # of the default
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        report.close()
        registry.close("rotated_file")
    assert errors == []
