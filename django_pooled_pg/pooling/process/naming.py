"""Names this process for display."""

from __future__ import annotations

import sys
from pathlib import PurePath


def process_name() -> str:
    """Return a short name for what runs in this process."""
    argv = sys.argv
    script = PurePath(argv[0] if argv else "")
    # `python -m gunicorn` runs .../gunicorn/__main__.py.
    name = script.parent.name if script.name == "__main__.py" else script.name
    if name in ("", "-c", "-m"):
        return "python"
    # Of the arguments, only Django's subcommand: others may be anything, even secrets.
    if name in ("manage.py", "django-admin", "django") and argv[1:] and argv[1][:1] != "-":
        return f"{name} {argv[1]}"
    return name
