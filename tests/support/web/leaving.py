"""The site's settings with `CancelAbandonedMiddleware`, for tests whose clients leave."""

from __future__ import annotations

import os

from tests.support.web.settings import *  # noqa: F403
from tests.support.web.settings import MIDDLEWARE as _OTHERS

_OURS = os.environ.get("OURS", "django_pooled_pg.middleware.CancelAbandonedMiddleware")
MIDDLEWARE = [_OURS, *_OTHERS]
if first := os.environ.get("FIRST_MIDDLEWARE"):
    MIDDLEWARE.insert(0, first)
if last := os.environ.get("LAST_MIDDLEWARE"):
    MIDDLEWARE.append(last)
if limit := os.environ.get("REQUEST_DEADLINE"):
    POOLED_PG_REQUEST_DEADLINE = float(limit)
ROOT_URLCONF = "tests.support.web.leaving_urls"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"all": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "all"}},
    "loggers": {"django_pooled_pg": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
