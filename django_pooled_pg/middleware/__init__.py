"""The middleware for `MIDDLEWARE`: what a visitor gets, and what happens when one leaves."""

from __future__ import annotations

from .abandoned import CancelAbandonedMiddleware
from .exhausted import PoolExhaustedMiddleware

__all__ = ["CancelAbandonedMiddleware", "PoolExhaustedMiddleware"]
