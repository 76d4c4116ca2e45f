"""The application that queries when it is imported, and then takes uWSGI's only hook.

As `import uwsgidecorators` does.
"""

from __future__ import annotations

import sys

from tests.support.preloading import application

__all__ = ["application"]

sys.modules["uwsgi"].post_fork_hook = lambda: None  # type: ignore[attr-defined]
