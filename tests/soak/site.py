"""The Django site whose pool is soaked."""

from __future__ import annotations

from contextlib import closing

import django
import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from testproject.embedded import Cluster

APPLICATION = "soak"  # the application_name of all sessions of the pool
ROLE, OTHER_ROLE = "soak_app", "soak_other"
MIN_SIZE, MAX_SIZE, TIMEOUT = 2, 8, 2.0
POOL = {
    "min_size": MIN_SIZE,
    "max_size": MAX_SIZE,
    "timeout": TIMEOUT,
    # Short, so that connections come and go.
    "max_idle": 2.0,
    "max_lifetime": 5.0,
}


def set_up(cluster: Cluster) -> None:
    with closing(psycopg.connect(cluster.dsn, autocommit=True)) as superuser:
        superuser.execute(
            f"CREATE ROLE {ROLE}; CREATE ROLE {OTHER_ROLE}; GRANT ALL ON SCHEMA public TO {ROLE}"
        )
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django_pooled_pg",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": "127.0.0.1",
                "PORT": cluster.port,
                "TIME_ZONE": "Europe/Berlin",
                "OPTIONS": {
                    "application_name": APPLICATION,
                    "assume_role": ROLE,
                    "pool": POOL,
                },
            }
        },
        INSTALLED_APPS=["django_pooled_pg", "testproject.library"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    connection.close()
