"""Processes that take part in monitoring, without any database server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import start_script

# Pools are made, but never open: nobody connects.
DATABASES = {
    alias: {"ENGINE": "django_pooled_pg", "NAME": "secret-name", "PASSWORD": "sesame"}
    for alias in ("default", "other")
}

JOIN = """\
import sys
from django_pooled_pg.monitoring import endpoint
connections["default"].pool, connections["other"].pool
endpoint.ensure_running()
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def short_folder() -> Iterator[Path]:
    """A private folder whose path is short enough for sockets, as tmp_path's may not be."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def member(folder: Path, script: str = "ready()") -> Iterator[subprocess.Popen[str]]:
    """A process that answers in `folder`, until a line is written to it."""
    process = start_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(process.communicate(timeout=10))
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def sockets(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sock"))


def connected(path: Path, within: float = 5.0) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(within)
    try:
        client.connect(os.fspath(path))
    except BaseException:
        client.close()
        raise
    return client


def read_line(client: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n") and (more := client.recv(65536)):
        received += more
    return received


def ask(path: Path, request: bytes = b'{"request":"snapshot"}\n') -> Any:
    """Send the request, return the answer, parsed."""
    with connected(path) as client:
        client.sendall(request)
        return json.loads(read_line(client))
