"""Provides tokens for Amazon RDS and Aurora (IAM database authentication); boto3 signs them.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..pooling.untold import Untold
from .token import Ask, Token, Tokens, need, tokens_of

# RDS accepts a token for 15 minutes. A token signed with a role's credentials ends with those, if
# that is sooner; but botocore signs with none that end within 10 minutes.
_SECONDS = 15 * 60

# The server receives the token in clear text, so its certificate must prove its name.
LEAST_SSLMODE = "verify-full"


def provider(
    database: Mapping[str, Any],
    *,
    region: str | None = None,
    profile: str | None = None,
    host: str | None = None,
    port: str | None = None,
    user: str | None = None,
) -> Tokens:
    """Return the tokens for `user` at `host`; both default to those in the settings.

    `host` is the endpoint's own name; give it where HOST is an alias of that name. `region`
    defaults to the one in the host's name, or else to what boto3 finds.
    """
    need("boto3", "aws")
    host = host or str(database.get("HOST") or "")
    if not host or "," in host or host.startswith("/"):
        raise ValueError("needs the name of one endpoint: give 'host', or one name in HOST")
    user = user or str(database.get("USER") or "")
    if not user:
        raise ValueError("needs the database user's name: give 'user', or set USER")
    port = port or str(database.get("PORT") or 5432)
    if not port.isdecimal():
        raise ValueError("needs one port: give 'port', or one number in PORT")
    region = region or _region_of(host)

    def connect() -> Ask:
        import boto3

        session = boto3.Session(region_name=region, profile_name=profile)
        if not session.region_name:
            raise Untold("'credentials' (aws_rds): boto3 finds no region; give 'region'")
        client = session.client("rds")

        def ask() -> Token:
            text = client.generate_db_auth_token(host, int(port), user)
            return Token(text, _SECONDS)

        return ask

    return tokens_of("aws_rds", (region, profile, host, port, user), connect)


def _region_of(host: str) -> str | None:
    found = re.fullmatch(r".+\.([a-z]+(?:-[a-z]+)+-\d+)\.rds\.amazonaws\.com(?:\.cn)?", host)
    return found[1] if found else None
