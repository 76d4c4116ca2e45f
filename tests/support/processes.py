"""Runs Python code with Django in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PRELUDE = """\
import json, os
import django
from django.conf import settings
settings.configure(**json.loads(os.environ["SETTINGS"]))
django.setup()
from django.db import connection, connections, transaction
def backend_pid(alias="default"):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]
"""

# For scripts that fork: `fork(child)` returns the exit code of a child that calls `child()`.
FORK = """
import sys, traceback
def fork(child):
    pid = os.fork()
    if not pid:
        try:
            child()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

# For scripts that exhaust a pool: a busy machine may need longer than its timeout to connect.
HOLD = """
from django.db import OperationalError
def hold(connection):
    while connection.connection is None:
        try:
            connection.ensure_connection()
        except OperationalError:
            pass
"""


def environment(**changes: str) -> dict[str, str]:
    """This process' environment, with warnings that nobody handles turned into noise."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDEVMODE": "1",
        "PYTHONWARNINGS": "error,ignore:This process:DeprecationWarning",
        **changes,
    }


def start_script(script: str, databases: dict[str, Any], **settings: Any) -> subprocess.Popen[str]:
    """Start `script` after a set-up of Django; `backend_pid()` and `connection` are there."""
    settings = {"DATABASES": databases, "USE_TZ": True, "INSTALLED_APPS": [], **settings}
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env=environment(SETTINGS=json.dumps(settings)),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run_script(script: str, databases: dict[str, Any], **settings: Any) -> str:
    """Run `script`, which must succeed and print nothing to stderr; return its output."""
    process = start_script(script, databases, **settings)
    # Children that hang hold the pipes open: all of them must go.
    watchdog = threading.Timer(30, os.killpg, [process.pid, signal.SIGABRT])
    watchdog.start()
    out, err = process.communicate()
    watchdog.cancel()
    assert (process.returncode, err) == (0, ""), f"{out}\n{err}"
    return out
