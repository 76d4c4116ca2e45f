"""Owns the tokens of Amazon RDS and Aurora (IAM database authentication), which boto3 signs.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..pooling.untold import Untold
from .token import Ask, Token, Tokens, need, tokens_of

# RDS takes a token for 15 minutes. One that was signed with credentials of a role ends with those, if
# that is sooner; but botocore signs with none that end within 10 minutes.
_SECONDS = 15 * 60

# The server's name is in its certificate, and it gets the token as it is.
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
    """Return the tokens for `user` at `host`; both are those of the settings where they aren't given.

    `host` is the endpoint's own name, to be given where HOST is another one for it. `region` is the
    host's, or else what boto3 finds.
    """
    need("boto3", "aws")
    host = host or str(database.get("HOST") or "")
    if not host or "," in host or host.startswith("/"):
        raise ValueError("needs the name of one endpoint: give 'host', or one in HOST")
    user = user or str(database.get("USER") or "")
    if not user:
        raise ValueError("needs the name of the database's user: give 'user', or USER")
    port = port or str(database.get("PORT") or 5432)
    if not port.isdecimal():
        raise ValueError("needs one port: give 'port', or one in PORT")
    region = region or _region_of(host)

    def connect() -> Ask:
        import boto3

        session = boto3.Session(region_name=region, profile_name=profile)
        if not session.region_name:
            raise Untold("'credentials' (aws_rds): boto3 knows no region; give 'region'")
        client = session.client("rds")

        def ask() -> Token:
            text = client.generate_db_auth_token(host, int(port), user)
            return Token(text, _SECONDS)

        return ask

    return tokens_of("aws_rds", (region, profile, host, port, user), connect)


def _region_of(host: str) -> str | None:
    found = re.fullmatch(r".+\.([a-z]+(?:-[a-z]+)+-\d+)\.rds\.amazonaws\.com(?:\.cn)?", host)
    return found[1] if found else None
