"""Checks the arguments that the commands share."""

from __future__ import annotations

import math

from django.conf import settings
from django.core.management.base import CommandError


def check_alias(alias: str) -> None:
    """Raise `CommandError` unless DATABASES has this alias."""
    if alias not in settings.DATABASES:
        known = ", ".join(sorted(settings.DATABASES))
        raise CommandError(f"DATABASES has no {alias!r}, only: {known}.")


def check_seconds(option: str, seconds: float) -> None:
    """Raise `CommandError` unless the option's value is a time that one can wait for."""
    if not 0 < seconds < math.inf:
        raise CommandError(f"--{option} must be a positive number of seconds, not {seconds:g}.")
