"""Passwords of a stack, random, one of each per state folder."""

import secrets
from dataclasses import dataclass, field


def new_password() -> str:
    """Returns a random password of 192 bits, safe in URLs and in quotes."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Secrets:
    """The passwords that the programs of one stack share."""

    postgres: str = field(default_factory=new_password, repr=False)
    database: str = field(default_factory=new_password, repr=False)
    redis: str = field(default_factory=new_password, repr=False)
    rpc: str = field(default_factory=new_password, repr=False)
    dagster: str = field(default_factory=new_password, repr=False)
    serve: str = field(default_factory=new_password, repr=False)
