"""Settings that these sites have in common. `DBSITE` is JSON: what the test wants of them."""

from __future__ import annotations

import json
import os
from typing import Any

WANTED: dict[str, Any] = json.loads(os.environ["DBSITE"])

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "not-a-secret"
ALLOWED_HOSTS = ["*"]
USE_TZ = True


def databases(engine: str) -> dict[str, Any]:
    return {"default": {**WANTED["database"], "ENGINE": engine}}
