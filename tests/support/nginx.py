"""A real nginx in front of a server, with its defaults."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testproject.ports import free_port
from tests.support.waiting import wait_until

# What a configuration can't do without, if it may write nowhere else.
_CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log {folder}/access;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            {location}
        }}
    }}
}}
"""


@contextmanager
def nginx(location: str) -> Iterator[int]:
    """Run nginx with that in its only location; yields its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx isn't installed (Debian: apt-get install nginx-light)")
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Its workers would otherwise be somebody who may not enter folders of tests.
        user = "user root;" if os.geteuid() == 0 else ""
        file, log = folder / "nginx.conf", folder / "log"
        file.write_text(
            _CONFIGURATION.format(user=user, folder=folder, port=port, location=location)
        )
        with log.open("w") as output:
            process = subprocess.Popen(
                [program, "-p", folder, "-c", file, "-e", "stderr"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: (folder / "pid").exists() or process.poll() is not None, within=30)
            assert process.poll() is None, log.read_text()
            yield port
        finally:
            process.terminate()
            process.wait(10)
