"""The settings of a suite, on other databases: its own aliases, with the engine that is tested.

Runs inside the suite; what differs between runs is in the environment.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal

_suite = importlib.import_module(os.environ["SUITE_SETTINGS"])
globals().update({name: getattr(_suite, name) for name in dir(_suite) if name.isupper()})

_given = json.loads(os.environ["DJANGO_SUITE_DATABASES"])["default"]


def _database(alias: str) -> dict[str, object]:
    test = dict(_suite.DATABASES[alias].get("TEST", {}))
    # Aliases that are one database in the suite are one here.
    return {**_given, "NAME": f"{_given['NAME']}_{test.get('MIRROR', alias)}", "TEST": test}


DATABASES = {alias: _database(alias) for alias in _suite.DATABASES}
# Half of the time goes into hashes otherwise.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEST_RUNNER = "recorder.RecordingRunner"

faulthandler.register(signal.SIGUSR1, all_threads=True)
