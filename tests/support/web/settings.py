"""The test project's settings, for a server whose sessions tests can tell from others'."""

from __future__ import annotations

import os

from testproject.settings import *  # noqa: F403
from testproject.settings import DATABASES
from tests.support.web.place import RUNTIME_DIR

if name := os.environ.get("APPLICATION_NAME"):
    DATABASES["default"]["OPTIONS"]["application_name"] = name
ROOT_URLCONF = "tests.support.web.urls"
POOLED_PG_RUNTIME_DIR = RUNTIME_DIR
