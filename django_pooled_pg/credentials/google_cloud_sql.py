"""Provides tokens for Google Cloud SQL (IAM database authentication), by google-auth.

https://cloud.google.com/sql/docs/postgres/iam-authentication
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .token import Ask, Token, Tokens, need, tokens_of

_SCOPE = "https://www.googleapis.com/auth/sqlservice.login"

LEAST_SSLMODE = "require"


def provider(database: Mapping[str, Any]) -> Tokens:
    """Return the tokens of the Application Default Credentials."""
    need("google.auth", "google")
    need("requests", "google")

    def connect() -> Ask:
        import google.auth
        from google.auth.transport.requests import Request

        credentials, _ = google.auth.default(scopes=[_SCOPE])
        request = Request()

        def ask() -> Token:
            credentials.refresh(request)
            # The expiry is in UTC, but naive.
            ends = credentials.expiry.replace(tzinfo=UTC)
            return Token(credentials.token, (ends - datetime.now(UTC)).total_seconds())

        return ask

    return tokens_of("google_cloud_sql", (), connect)
