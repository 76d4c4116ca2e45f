"""Owns the system checks beyond a wrong option; what Django calls is `validation.py`'s."""

from __future__ import annotations
