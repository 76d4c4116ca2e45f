"""The providers of `credentials`, with the clouds' own libraries but without the clouds.

`credentials/aws_rds.py` signs here; `credentials/azure.py` and `credentials/google_cloud_sql.py` ask a
server of ours.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakValueDictionary

import psycopg
import pytest
from django.db import OperationalError

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.credentials import token
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.untold import CredentialsProvider, Untold
from testproject.embedded import Cluster
from tests.support.queries import backend_pid, hold
from tests.support.waiting import wait_until

MISSING = "isn't installed: make test-packages"
RDS = "books.abc.eu-central-1.rds.amazonaws.com"
DATABASE = {"HOST": RDS, "USER": "app"}
ACCESS_KEY = "AKIDEXAMPLE"


class Endpoint:
    """Stands for the provider: answers with what `token` returns, and notes the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.answer: Callable[[], dict[str, Any]] = dict
        self.status = 200
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                endpoint.requests.append((self.path, dict(self.headers), body))
                answer = json.dumps(endpoint.answer()).encode()
                self.send_response(endpoint.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools of other tests may live on, with theirs."""
    monkeypatch.setattr(token, "_tokens", WeakValueDictionary())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.05,))
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join()


def credentials(value: Any) -> CredentialsProvider:
    options = {"pool": {"credentials": value}}
    config = PoolConfig.from_settings("default", {**DATABASE, "OPTIONS": options})
    assert config is not None
    assert config.credentials is not None
    return config.credentials


# Amazon


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("boto3", reason=f"boto3 {MISSING}")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")


def parsed(text: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(f"https://{text}")
    return split.netloc, {key: value for key, (value,) in parse_qs(split.query).items()}


@pytest.mark.usefixtures("amazon")
def test_a_token_of_rds_is_for_the_user_and_the_endpoint_of_the_settings() -> None:
    endpoint, query = parsed(credentials("django_pooled_pg.credentials.aws_rds")()["password"])
    assert endpoint == f"{RDS}:5432"
    assert (query["Action"], query["DBUser"]) == ("connect", "app")
    assert query["X-Amz-Expires"] == "900"
    assert "/eu-central-1/rds-db/" in query["X-Amz-Credential"]
    assert query["X-Amz-Credential"].startswith(ACCESS_KEY)


@pytest.mark.usefixtures("amazon")
def test_a_token_of_rds_may_be_for_another_endpoint_than_host() -> None:
    given = {"provider": "aws_rds", "host": "db", "user": "me", "port": 1, "region": "us-east-1"}
    endpoint, query = parsed(credentials(given)()["password"])
    assert (endpoint, query["DBUser"]) == ("db:1", "me")
    assert "/us-east-1/rds-db/" in query["X-Amz-Credential"]


@pytest.mark.usefixtures("amazon")
def test_a_region_that_nobody_knows_is_told() -> None:
    with pytest.raises(Untold, match="boto3 finds no region; give 'region'"):
        credentials({"provider": "aws_rds", "host": "db"})()


@pytest.mark.usefixtures("amazon")
def test_a_token_of_rds_is_signed_once_and_with_what_the_role_has(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url)
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    endpoint.answer = lambda: {
        "AccessKeyId": "ASIAROLE",
        "SecretAccessKey": "s3cret",
        "Token": "session-of-the-role",
        "Expiration": ends,
    }
    get = credentials("django_pooled_pg.credentials.aws_rds")
    _, query = parsed(get()["password"])
    assert query["X-Amz-Credential"].startswith("ASIAROLE/")
    assert query["X-Amz-Security-Token"] == "session-of-the-role"
    assert get() == get()
    assert len(endpoint.requests) == 1


@pytest.mark.usefixtures("amazon")
def test_rds_without_credentials_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Untold, match=r"'credentials' \(aws_rds\) raised NoCredentialsError"):
        credentials("django_pooled_pg.credentials.aws_rds")()


# Azure


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> Endpoint:
    """Azure's endpoint for managed identities, as App Service has it."""
    pytest.importorskip("azure.identity", reason=f"azure-identity {MISSING}")
    monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint.url)
    monkeypatch.setenv("IDENTITY_HEADER", "header-of-app-service")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    issued = iter(range(1, 100))
    endpoint.answer = lambda: {
        "access_token": f"azure-{next(issued)}",
        "expires_on": str(int(time.time()) + 3600),
        "resource": "https://ossrdbms-aad.database.windows.net",
        "token_type": "Bearer",
    }
    return endpoint


def test_azure_is_asked_for_a_token_for_postgresql_once(azure: Endpoint) -> None:
    get = credentials("django_pooled_pg.credentials.azure")
    assert get() == get() == {"password": "azure-1"}
    ((path, headers, _),) = azure.requests
    assert "ossrdbms-aad.database.windows.net" in path
    assert headers["X-IDENTITY-HEADER"] == "header-of-app-service"


def test_azure_may_be_told_the_identity_and_the_cloud(azure: Endpoint) -> None:
    scope = "https://ossrdbms-aad.database.chinacloudapi.cn/.default"
    given = {"provider": "azure", "client_id": "of-books", "scope": scope}
    assert credentials(given)() == {"password": "azure-1"}
    ((path, _, _),) = azure.requests
    query = parse_qs(urlsplit(path).query)
    assert query["client_id"] == ["of-books"]
    assert query["resource"] == ["https://ossrdbms-aad.database.chinacloudapi.cn"]


def test_azure_that_refuses_is_told_but_not_what_it_says(azure: Endpoint) -> None:
    azure.status, azure.answer = 400, lambda: {"error": "s3cret"}
    with pytest.raises(Untold, match=r"'credentials' \(azure\) raised \w+ \(") as caught:
        credentials("django_pooled_pg.credentials.azure")()
    assert "s3cret" not in str(caught.value)


# Google


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, tmp_path: Path) -> Endpoint:
    """Google's token endpoint, and the key of a service account that names it."""
    pytest.importorskip("google.auth", reason=f"google-auth {MISSING}")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "books",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": "app@books.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": endpoint.url,
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    issued = iter(range(1, 100))
    endpoint.answer = lambda: {
        "access_token": f"google-{next(issued)}",
        "expires_in": 3600,
        "token_type": "Bearer",
    }
    return endpoint


def test_google_is_asked_for_a_token_to_log_in_once(google: Endpoint) -> None:
    jwt = pytest.importorskip("google.auth.jwt")
    get = credentials("django_pooled_pg.credentials.google_cloud_sql")
    assert get() == get() == {"password": "google-1"}
    ((_, _, body),) = google.requests
    (assertion,) = parse_qs(body)["assertion"]
    asked = jwt.decode(assertion, verify=False)
    assert asked["scope"] == "https://www.googleapis.com/auth/sqlservice.login"


def test_google_that_refuses_is_told_but_not_what_it_says(google: Endpoint) -> None:
    google.status, google.answer = 400, lambda: {"error": "s3cret"}
    with pytest.raises(
        Untold, match=r"'credentials' \(google_cloud_sql\) raised Refresh"
    ) as caught:
        credentials("django_pooled_pg.credentials.google_cloud_sql")()
    assert "s3cret" not in str(caught.value)


# With a server


@pytest.fixture
def server() -> Iterator[Cluster]:
    with Cluster() as cluster:
        access = cluster.data / "pg_hba.conf"
        access.write_text("host all app all scram-sha-256\n" + access.read_text())
        cluster.restart()
        yield cluster


@pytest.mark.parametrize("provider", ["azure", "google"])
def test_tokens_that_expire_under_load_cost_no_request(
    request: pytest.FixtureRequest,
    database: dict[str, Any],
    server: Cluster,
    django_db_blocker: Any,
    provider: str,
) -> None:
    """Each new token ends the one before it at once, which is worse than what providers do."""
    endpoint: Endpoint = request.getfixturevalue(provider)
    path = {"azure": "azure", "google": "google_cloud_sql"}[provider]
    with psycopg.connect(server.dsn, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE app LOGIN")

    def issue() -> dict[str, Any]:
        text = f"token-{len(endpoint.requests)}"
        with psycopg.connect(server.dsn, autocommit=True) as superuser:
            superuser.execute(f"ALTER ROLE app PASSWORD '{text}'")  # type: ignore[arg-type]  # not a literal
        ends = {"expires_in": 4, "expires_on": str(int(time.time()) + 4)}
        return {"access_token": text, "token_type": "Bearer", **ends}

    endpoint.answer = issue
    settings = {**database, "HOST": "127.0.0.1", "PORT": str(server.port), "NAME": "postgres"}
    settings |= {"USER": "app", "PASSWORD": ""}
    settings["OPTIONS"] = {
        "pool": {
            "credentials": f"django_pooled_pg.credentials.{path}",
            "max_size": 4,
            "max_lifetime": 0.3,
        }
    }
    errors: list[Exception] = []
    pids: set[int] = set()
    stop = threading.Event()
    alias = f"tokens_of_{provider}"

    def requests() -> None:
        with django_db_blocker.unblock():
            while not stop.is_set():
                wrapper = DatabaseWrapper(settings, alias)
                try:
                    pids.add(backend_pid(wrapper))
                except OperationalError as ex:
                    errors.append(ex)
                wrapper.close()

    with django_db_blocker.unblock():
        # While a token has ended and the next one isn't here, a connection that works is why nobody
        # is told.
        report = DatabaseWrapper(settings, alias)
        hold(report)
    threads = [threading.Thread(target=requests) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(endpoint.requests) >= 4, within=60)
        before = len(pids)
        wait_until(lambda: len(pids) >= before + 4, within=30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        report.close()
        registry.close(alias)
    assert errors == []
