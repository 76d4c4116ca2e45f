"""Fixtures for commands: the runtime folder is that of the monitoring tests."""

from __future__ import annotations

from tests.monitoring.conftest import folder

__all__ = ["folder"]
