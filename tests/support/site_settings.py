"""The test project's settings under another name: `poolstats` finds processes by that name."""

from __future__ import annotations

from testproject.settings import *  # noqa: F403
