"""Who may call the node: a user with a password, or a user who can read the cookie file."""

import hmac
import secrets
from pathlib import Path
from typing import Final

from tbg_core.files import write_private
from tbg_core.rpc import PasswordCredentials

COOKIE_NAME: Final = ".cookie"
COOKIE_USER: Final = "__cookie__"
"""The user name that bitcoind writes into its cookie file."""


class Auth:
    """The user and password that HTTP basic authentication must name.

    Raises:
        ValueError: when the user holds a colon or the password is empty.
    """

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
    """Makes up a password for this run and writes it to ``path``, readable by our user alone."""
    password = secrets.token_hex(32)
    write_private(path, f"{COOKIE_USER}:{password}")
    return Auth(COOKIE_USER, password)
