"""Where the processes of these sites are found, by tests as well."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

RUNTIME_DIR = Path(tempfile.gettempdir(), f"tests-web-{os.geteuid()}")
