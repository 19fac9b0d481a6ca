"""Addresses: which script they pay, and on which networks they are valid."""

from dataclasses import dataclass
from enum import Enum

from devnet.bitcoin.base58 import decode_base58check, encode_base58check
from devnet.bitcoin.bech32 import decode_segwit, encode_segwit
from devnet.bitcoin.script import (
    OP_0,
    OP_1,
    OP_16,
    pay_to_pubkey_hash,
    pay_to_script_hash,
    witness_program_script,
)


class Network(Enum):
    """A Bitcoin network; the value is the ``chain`` of ``getblockchaininfo``."""

    MAIN = "main"
    TESTNET = "test"
    TESTNET4 = "testnet4"
    SIGNET = "signet"
    REGTEST = "regtest"


class AddressKind(Enum):
    """What an address pays to."""

    P2PKH = "p2pkh"
    P2SH = "p2sh"
    P2WPKH = "p2wpkh"
    P2WSH = "p2wsh"
    P2TR = "p2tr"
    WITNESS_UNKNOWN = "witness_unknown"
    """A witness version or length without rules yet: anyone can spend it today."""


class AddressError(ValueError):
    """The text is not an address, or not one of this network."""


@dataclass(frozen=True, slots=True)
class Address:
    """A decoded address.

    ``networks`` holds every network on which it is valid: the test networks share their formats,
    and regtest shares theirs for Base58. ``text`` is the canonical form (Bech32 in lower case).
    """

    text: str
    kind: AddressKind
    networks: frozenset[Network]
    script_pubkey: bytes
    witness_version: int | None = None
    witness_program: bytes | None = None


_PUBLIC_TESTS = frozenset({Network.TESTNET, Network.TESTNET4, Network.SIGNET})
_MAIN = frozenset({Network.MAIN})

_NETWORKS_OF_PREFIX = {
    "bc": _MAIN,
    "tb": _PUBLIC_TESTS,
    "bcrt": frozenset({Network.REGTEST}),
}
_KIND_OF_VERSION = {
    0x00: (AddressKind.P2PKH, _MAIN),
    0x05: (AddressKind.P2SH, _MAIN),
    0x6F: (AddressKind.P2PKH, _PUBLIC_TESTS | {Network.REGTEST}),
    0xC4: (AddressKind.P2SH, _PUBLIC_TESTS | {Network.REGTEST}),
}
_KIND_OF_PROGRAM = {
    (0, 20): AddressKind.P2WPKH,
    (0, 32): AddressKind.P2WSH,
    (1, 32): AddressKind.P2TR,
}


def decode_address(text: str) -> Address:
    """The address in ``text``, of any network. Nothing is stripped or repaired.

    Raises:
        AddressError: names the fault.
    """
    prefix = text.lower().rpartition("1")[0]
    if prefix in _NETWORKS_OF_PREFIX:
        return _decode_witness(text)
    try:
        payload = decode_base58check(text)
    except ValueError as error:
        raise AddressError(f"neither a Bech32 nor a Base58 address: {error}") from error
    if len(payload) != 21 or payload[0] not in _KIND_OF_VERSION:
        raise AddressError("Base58 data that is not an address of any Bitcoin network")
    kind, networks = _KIND_OF_VERSION[payload[0]]
    script = pay_to_pubkey_hash if kind is AddressKind.P2PKH else pay_to_script_hash
    return Address(text, kind, networks, script(payload[1:]))


def decode_address_for(text: str, network: Network) -> Address:
    """The address in ``text`` if it is valid on ``network``.

    Raises:
        AddressError: if it is not an address, or one of other networks, which the text names.
    """
    address = decode_address(text)
    if network not in address.networks:
        found = " or ".join(sorted(item.value for item in address.networks))
        raise AddressError(f"this is an address of {found}, not of {network.value}")
    return address


def encode_address(script_pubkey: bytes, network: Network) -> str:
    """The address of ``network`` that pays ``script_pubkey``.

    Raises:
        AddressError: no address describes this script (an OP_RETURN, for one).
    """
    main = network is Network.MAIN
    if len(script_pubkey) == 25 and script_pubkey == pay_to_pubkey_hash(script_pubkey[3:23]):
        return encode_base58check((b"\x00" if main else b"\x6f") + script_pubkey[3:23])
    if len(script_pubkey) == 23 and script_pubkey == pay_to_script_hash(script_pubkey[2:22]):
        return encode_base58check((b"\x05" if main else b"\xc4") + script_pubkey[2:22])
    prefix = next(name for name, nets in _NETWORKS_OF_PREFIX.items() if network in nets)
    program = script_pubkey[2:]
    if 4 <= len(script_pubkey) <= 42 and script_pubkey[1] == len(program):
        opcode = script_pubkey[0]
        try:
            if opcode == OP_0:
                return encode_segwit(prefix, 0, program)
            if OP_1 <= opcode <= OP_16:
                return encode_segwit(prefix, opcode - OP_1 + 1, program)
        except ValueError as error:
            raise AddressError(f"this script has no address: {error}") from error
    raise AddressError("this script has no address")


def _decode_witness(text: str) -> Address:
    try:
        prefix, version, program = decode_segwit(text)
    except ValueError as error:
        raise AddressError(f"not a valid Bech32 address: {error}") from error
    return Address(
        text.lower(),
        _KIND_OF_PROGRAM.get((version, len(program)), AddressKind.WITNESS_UNKNOWN),
        _NETWORKS_OF_PREFIX[prefix],
        witness_program_script(version, program),
        version,
        program,
    )
