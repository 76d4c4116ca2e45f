"""The test project's settings: tests run against the same server, in a database of their own."""

from __future__ import annotations

from testproject.settings import *  # noqa: F403
