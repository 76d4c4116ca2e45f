"""The settings of django-simple-history's own `runtests.py`."""

from __future__ import annotations

from runtests import get_default_settings

globals().update(get_default_settings(database_name="postgres"))
