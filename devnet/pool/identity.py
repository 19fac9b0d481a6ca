"""Who a miner says it is: its address, the name of its worker, and the options in its password."""

import re
from dataclasses import dataclass
from typing import Any, Final

from devnet.bitcoin.address import AddressError, AddressKind, Network, decode_address_for
from devnet.pool.values import PADDING, difficulty, printable
from devnet.pool.work import Payout

MAX_WORKER: Final = 128  # characters, as in the event contract

_MAX_PASSWORD: Final = 256  # characters that are searched for options
_PREFIX: Final = "bitcoin:"
_SEPARATOR: Final = re.compile(r"[._/+]")
_TAG: Final = re.compile(r"[A-Za-z0-9_.\-]{1,20}")


class IdentityError(ValueError):
    """The user name has no address that can be paid; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a user name says.

    ``name`` is the user name as it was sent. ``user`` is the address in its canonical form,
    ``worker`` the printable part of the name of the worker.
    """

    name: str
    user: str
    worker: str
    script_pubkey: bytes


@dataclass(frozen=True, slots=True)
class Miner:
    """An authorised connection, as events describe it, and what its blocks pay."""

    identity: Identity
    payout: Payout
    client_id: int
    ip: str
    user_agent: str | None

    @property
    def who(self) -> dict[str, Any]:
        """The two fields that every event about a miner carries."""
        return {"user": self.identity.user, "worker": self.identity.worker}


@dataclass(frozen=True, slots=True)
class Options:
    """What a password asks for: a tag in the coinbase, a first difficulty."""

    tag: str = ""
    difficulty: float | None = None


def split_username(username: str) -> tuple[str, str]:
    """The address and the worker in a Stratum user name, as the C module splits it.

    White space around the name and ``bitcoin:`` before it mean nothing. The address ends before
    the first of ``.``, ``_``, ``/`` and ``+``; the worker is the rest, without white space around
    it. tests/events/usernames.json holds the cases that both engines follow.
    """
    text = username.strip(PADDING)
    if text[: len(_PREFIX)].lower() == _PREFIX:
        text = text[len(_PREFIX) :]
    user, *rest = _SEPARATOR.split(text, maxsplit=1)
    return user.strip(PADDING), "".join(rest).strip(PADDING)


def identify(username: Any, network: Network) -> Identity:
    """Reads a Stratum user name.

    Raises:
        IdentityError: if it is not text, if its address is not one of ``network``, or if anybody
            could spend from that kind of address.
    """
    if not isinstance(username, str) or not username:
        raise IdentityError("the user name is your address, or address.worker")
    text, worker = split_username(username)
    try:
        address = decode_address_for(text, network)
    except AddressError as error:
        raise IdentityError(f"the user name must begin with your address: {error}") from None
    if address.kind is AddressKind.WITNESS_UNKNOWN:
        raise IdentityError("anybody could spend from an address of this witness version")
    return Identity(username, address.text, printable(worker, MAX_WORKER), address.script_pubkey)


def password_options(password: Any) -> Options:
    """The options in a password: ``tag=NAME`` and ``d=DIFFICULTY``, the first valid one of each.

    Commas, semicolons and white space separate options. Anything else is ignored: most miners
    send a password that means nothing.
    """
    tag, wanted = "", None
    if isinstance(password, str):
        for option in re.split(r"[,;\s\0]+", password[:_MAX_PASSWORD]):
            key, _, value = option.partition("=")
            if key == "tag" and not tag and _TAG.fullmatch(value):
                tag = value
            elif key == "d" and wanted is None:
                wanted = difficulty(value)
    return Options(tag, wanted)
