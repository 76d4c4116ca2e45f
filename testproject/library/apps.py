"""The library app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    """`testproject.library` in INSTALLED_APPS."""

    name = "testproject.library"
    label = "library"
