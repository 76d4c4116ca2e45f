"""The settings under which Django's tests run; what differs between runs is in the environment."""

from __future__ import annotations

import faulthandler
import json
import os
import signal

# Those that Django's tests count on. Of the version that is tested; beside runtests.py.
from test_sqlite import *  # type: ignore[import-not-found]  # noqa: F403

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
TEST_RUNNER = "tests.conformance.django_suite.recorder.RecordingRunner"

# How `running.py` asks processes that hang where they are.
faulthandler.register(signal.SIGUSR1, all_threads=True)
