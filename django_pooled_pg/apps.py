"""The Django app: adds the commands and the checks; the engine works without it."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from . import driver as driver


class PooledPgConfig(AppConfig):
    """`django_pooled_pg` in INSTALLED_APPS."""

    name = "django_pooled_pg"
    label = "django_pooled_pg"
    verbose_name = "Pooled PostgreSQL connections"

    def ready(self) -> None:
        from .prewarming import prewarm_if_serving
        from .runtime_dir import note_databases
        from .validation import check_all, check_deploy

        note_databases()
        register(check_all)
        register(check_deploy, deploy=True)
        prewarm_if_serving()
