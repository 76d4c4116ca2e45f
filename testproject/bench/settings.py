"""The site's settings under load: the site's own, with a contestant's database.

`BENCH_DATABASE` is JSON for `DATABASES["default"]`, `BENCH_APP` the engine's app, if it has one,
`BENCH_TREE` a folder with another version of this project's package, `BENCH_MIDDLEWARE` JSON with
middleware to put before the site's own.
"""

from __future__ import annotations

import json
import os

from . import trees

trees.import_package(os.environ["BENCH_TREE"])
# Otherwise the site would start a server of its own.
os.environ.setdefault("DATABASE_URL", "postgres://")

from ..settings import *  # noqa: E402, F403  # as settings modules extend each other
from ..settings import INSTALLED_APPS, MIDDLEWARE  # noqa: E402  # after what the star needs

DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}
INSTALLED_APPS = [
    app for app in INSTALLED_APPS if app != "django_pooled_pg" or os.environ["BENCH_APP"] == app
]
if os.environ["BENCH_APP"] not in ("", *INSTALLED_APPS):
    INSTALLED_APPS += [os.environ["BENCH_APP"]]
MIDDLEWARE = [*json.loads(os.environ["BENCH_MIDDLEWARE"]), *MIDDLEWARE]
ROOT_URLCONF = "testproject.bench.urls"
