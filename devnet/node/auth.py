"""Who may call the node: a user with a password, or whoever can read the cookie file."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from ingest.rpc import PasswordCredentials

COOKIE_NAME = ".cookie"
COOKIE_USER = "__cookie__"
"""The user name that bitcoind writes into its cookie file."""


class Auth:
    """The one pair of user and password that HTTP basic authentication has to name."""

    def __init__(self, user: str, password: str) -> None:
        if ":" in user:
            raise ValueError(f"a user name cannot contain a colon: {user!r}")
        if not password:
            raise ValueError("the RPC password is empty")
        self._expected = PasswordCredentials(user, password).authorization().encode()

    def accepts(self, header: str) -> bool:
        """Whether an Authorization header names the pair; takes the same time either way."""
        return hmac.compare_digest(header.encode("utf-8", "backslashreplace"), self._expected)


def write_cookie(path: Path) -> Auth:
    """Make up a password for this run and leave it in ``path``, readable by our user alone."""
    password = secrets.token_hex(32)
    # Written aside and renamed: a client never reads half a cookie.
    fresh = path.with_name(path.name + ".tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{COOKIE_USER}:{password}")
    fresh.replace(path)
    return Auth(COOKIE_USER, password)
