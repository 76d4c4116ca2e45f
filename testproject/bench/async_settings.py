"""The settings of the async measure: those of the site under load, without middleware.

Django's own middleware hops into threads and back, which would cost more than all that is measured.
"""

from __future__ import annotations

from .settings import *  # noqa: F403  # as settings modules extend each other

MIDDLEWARE = []
