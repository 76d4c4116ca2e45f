"""Owns knowing whether this thread works on a request; knows no connection.

Django announces a request, and its end, in the thread that uses the database for it, under ASGI
as well: https://docs.djangoproject.com/en/stable/ref/signals/#request-response-signals
"""

from __future__ import annotations

import threading
from typing import Any

from django.core.signals import request_finished, request_started


class _Thread(threading.local):
    in_request = False


this_thread = _Thread()
"""`in_request` tells whether this thread is inside a request."""


def _begin(**kwargs: Any) -> None:
    this_thread.in_request = True


def _end(**kwargs: Any) -> None:
    this_thread.in_request = False


request_started.connect(_begin, weak=False, dispatch_uid="django_pooled_pg.request_scope")
request_finished.connect(_end, weak=False, dispatch_uid="django_pooled_pg.request_scope")
