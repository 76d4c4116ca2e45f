"""The system checks beyond wrong options; `validation.py` has what Django calls."""

from __future__ import annotations
