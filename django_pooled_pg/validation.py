"""Connects Django's check framework to pools; apart from the options, `checks/` does the work.

Only `PoolValidation`, which Django calls with `--database`, connects to a database. Serving
processes run no checks, so `checks/` is imported only when a check runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.validation import BaseDatabaseValidation
from django.db.backends.postgresql.base import DatabaseWrapper

from .pooling.config import PoolConfig


class PoolValidation(BaseDatabaseValidation):
    """Checks one alias against its server: `manage.py check --database ALIAS`.

    Without the app in INSTALLED_APPS, it checks the alias's settings, too.
    """

    connection: DatabaseWrapper

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        from .checks.server import check_server

        messages = super().check(**kwargs)
        if not apps.is_installed("django_pooled_pg"):
            messages += _check(self.connection)
        config = _config(self.connection)
        if isinstance(config, PoolConfig):
            messages += check_server(self.connection, config)
        return messages


def check_all(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings of all aliases; registered by the app, so it runs at each start."""
    from .checks.abandoned import check_abandoned
    from .checks.project import check_settings

    messages = [*check_settings(), *check_abandoned()]
    for connection in _engines():
        messages += _check(connection)
    return messages


def check_deploy(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check what matters in production; registered by the app for `manage.py check --deploy`."""
    from .checks.abandoned import check_server_tells
    from .checks.project import check_deployment

    if not any(_config(each) for each in _engines()):
        return []
    return [*check_deployment(), *check_server_tells()]


def _engines() -> Iterator[BaseDatabaseWrapper]:
    for alias in connections:
        if isinstance(connections[alias].validation, PoolValidation):
            yield connections[alias]


def _config(connection: BaseDatabaseWrapper) -> PoolConfig | CheckMessage | None:
    """Return the pool's configuration, `None` without a pool, or a message about what is wrong."""
    try:
        return PoolConfig.from_settings(connection.alias, connection.settings_dict)
    except ImproperlyConfigured as ex:
        from .checks.messages import message

        hint = "docs/settings.md describes every option."
        return message("E001", str(ex), hint, connection.alias)


def _check(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    from .checks.options import check_options

    config = _config(connection)
    if config is None:
        return []
    if isinstance(config, CheckMessage):
        return [config]
    return [*check_options(connection.alias, connection.settings_dict, config)]
