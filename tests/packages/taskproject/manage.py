"""The project's management commands."""

from __future__ import annotations

import os
import sys

if "greenlet" in sys.argv:  # before anything else is imported, as gevent asks for
    from gevent import monkey

    monkey.patch_all()

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.packages.taskproject.settings"
    from django.core.management import execute_from_command_line

    execute_from_command_line()
