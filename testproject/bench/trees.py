"""Imports another folder's version of this project's package."""

from __future__ import annotations

import sys
from pathlib import Path


def import_package(tree: str) -> None:
    """Import the package from a folder, and nothing else from there; do nothing without one."""
    if not tree:
        return
    sys.path.insert(0, tree)
    import django_pooled_pg

    sys.path.remove(tree)
    assert Path(tree).resolve() in Path(django_pooled_pg.__file__).resolve().parents
