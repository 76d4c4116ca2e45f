"""gunicorn's configuration for `--preload -k gevent`: patches before the site is loaded."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()
