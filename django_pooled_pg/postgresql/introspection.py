"""The engine's introspection, where packages that build on an engine look for it."""

from __future__ import annotations

from .base import DatabaseWrapper

DatabaseIntrospection = DatabaseWrapper.introspection_class
