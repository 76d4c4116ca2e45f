"""Owns the system checks; must not connect to a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.validation import BaseDatabaseValidation

from .pooling.config import PoolConfig


class PoolValidation(BaseDatabaseValidation):
    """Checks one alias: `manage.py check --database ALIAS`, where the app isn't installed."""

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        messages = super().check(**kwargs)
        if not apps.is_installed("django_pooled_pg"):
            messages += _check(self.connection)
        return messages


def check_all(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the pools of all aliases; registered by the app, so that each start runs it."""
    return [
        message
        for alias in connections
        if isinstance(connections[alias].validation, PoolValidation)
        for message in _check(connections[alias])
    ]


def _check(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    try:
        PoolConfig.from_settings(connection.alias, connection.settings_dict)
    except ImproperlyConfigured as ex:
        return [
            Error(
                str(ex),
                hint="Every option is described in docs/settings.md.",
                obj=f"DATABASES[{connection.alias!r}]",
                id="pooled_pg.E001",
            )
        ]
    return []
