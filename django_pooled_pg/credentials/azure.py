"""Provides tokens for Azure Database for PostgreSQL (Microsoft Entra ID), by azure-identity.

https://learn.microsoft.com/en-us/azure/postgresql/flexible-server/security-entra-concepts
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any

from .token import Ask, Token, Tokens, need, tokens_of

_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"

LEAST_SSLMODE = "require"


def provider(
    database: Mapping[str, Any], *, client_id: str | None = None, scope: str = _SCOPE
) -> Tokens:
    """Return the tokens of azure-identity's `DefaultAzureCredential`.

    `client_id` names a user-assigned managed identity or a workload identity; national clouds need
    another `scope`.
    """
    need("azure.identity", "azure")

    def connect() -> Ask:
        from azure.identity import DefaultAzureCredential

        ids = {} if client_id is None else dict.fromkeys(_IDS, client_id)
        credential = DefaultAzureCredential(**ids)

        def ask() -> Token:
            token = credential.get_token(scope)
            return Token(token.token, token.expires_on - time())

        return ask

    return tokens_of("azure", (client_id, scope), connect)


_IDS = ("managed_identity_client_id", "workload_identity_client_id")
