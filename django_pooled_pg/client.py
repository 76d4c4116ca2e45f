"""Gives `manage.py dbshell` credentials that are made on demand."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.client import DatabaseClient

from .pooling.config import PoolConfig, with_fresh_password

_SETTING_OF = {"user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


class PooledDatabaseClient(DatabaseClient):
    """Django's client, which only knows passwords that are strings."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Any
    ) -> tuple[list[str], dict[str, str] | None]:
        settings = with_fresh_password(settings_dict)
        config = PoolConfig.from_settings("default", settings_dict)
        if config is not None and config.credentials is not None:
            for name, value in config.credentials().items():
                if name in _SETTING_OF:
                    settings[_SETTING_OF[name]] = value
        args, env = super().settings_to_cmd_args_env(settings, parameters)
        return args, env
