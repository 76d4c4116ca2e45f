"""Owns what Django calls to check pools; what is checked, beyond the options, is in `checks/`.

Only `PoolValidation`, which Django calls with `--database`, connects to a database. A process that
serves runs no checks, so what is in `checks/` is imported when one is run.
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

    Where the app isn't installed, it checks the alias' settings, too.
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
    """Check the settings of all aliases; registered by the app, so that each start runs it."""
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
    """Return what the pool is configured to be, `None` without a pool, or what is wrong."""
    try:
        return PoolConfig.from_settings(connection.alias, connection.settings_dict)
    except ImproperlyConfigured as ex:
        from .checks.messages import message

        hint = "Every option is described in docs/settings.md."
        return message("E001", str(ex), hint, connection.alias)


def _check(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    from .checks.options import check_options

    config = _config(connection)
    if config is None:
        return []
    if isinstance(config, CheckMessage):
        return [config]
    return [*check_options(connection.alias, connection.settings_dict, config)]
