"""Who a miner says it is. All of it is text from a stranger, cleaned here once."""

import re
from dataclasses import dataclass
from typing import Any, Final

from devnet.bitcoin.address import (
    AddressError,
    AddressKind,
    Network,
    decode_address_for,
)

MAX_WORKER: Final = 128  # characters, as the event contract has it
MAX_USER_AGENT: Final = 256
MAX_JOB_ID: Final = 128

_TAG: Final = re.compile(r"(?:^|[,;\s])tag=([A-Za-z0-9_.\-]{1,20})(?=$|[,;\s])")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}){1,32}")


class IdentityError(ValueError):
    """The user name does not name an address that can be paid; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An authorised miner.

    ``name`` is the user name as it was sent: every share has to repeat it. ``user`` is the
    address in its canonical form, ``worker`` the printable part of what follows the first dot.
    """

    name: str
    user: str
    worker: str
    script_pubkey: bytes


def identify(username: Any, network: Network) -> Identity:
    """Reads ``address[.worker]``.

    Raises:
        IdentityError: when it is no text, or the address is none of ``network``, or of a kind
            that anybody could spend from.
    """
    if not isinstance(username, str) or not username:
        raise IdentityError("the user name is your address, or address.worker")
    text, _, worker = username.partition(".")
    try:
        address = decode_address_for(text, network)
    except AddressError as error:
        raise IdentityError(f"the user name must begin with your address: {error}") from None
    if address.kind is AddressKind.WITNESS_UNKNOWN:
        raise IdentityError("anybody could spend from an address of this witness version")
    return Identity(username, address.text, printable(worker, MAX_WORKER), address.script_pubkey)


def printable(text: str, limit: int) -> str:
    """``text`` without control characters, lone surrogates and the like, cut to ``limit``.

    What remains fits every store: PostgreSQL refuses U+0000, UTF-8 refuses surrogates, and a
    terminal obeys escape sequences.
    """
    # Cut first: the work on a hostile text is bounded, too.
    return "".join(item for item in text[: 4 * limit] if item.isprintable())[:limit]


def printable_or_none(value: Any, limit: int) -> str | None:
    """The printable part of ``value``, None where it is no text or nothing remains."""
    return printable(value, limit) or None if isinstance(value, str) else None


def hex_or_none(value: Any) -> str | None:
    """``value`` in lower case if it is the hex of 1 to 32 bytes, else None."""
    return value.lower() if isinstance(value, str) and _HEX.fullmatch(value) else None


def tag_from_password(password: Any) -> str:
    """The miner's tag for the coinbase, from ``tag=name`` in the password; '' where none."""
    if not isinstance(password, str):
        return ""
    match = _TAG.search(password[:256])
    return match[1] if match else ""
