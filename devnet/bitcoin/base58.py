"""Base58Check: the encoding of addresses that begin with 1, 3, m, n or 2."""

from devnet.bitcoin.hashing import sha256d

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_CHECKSUM_SIZE = 4
_MAX_LENGTH = 112
"""Longer than anything encoded in practice; it bounds the work on hostile input."""


def encode_base58check(payload: bytes) -> str:
    """``payload`` (version byte first) with its checksum, in base 58."""
    data = payload + sha256d(payload)[:_CHECKSUM_SIZE]
    number = int.from_bytes(data, "big")
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    leading_zeros = len(data) - len(data.lstrip(b"\0"))
    return _ALPHABET[0] * leading_zeros + "".join(reversed(digits))


def decode_base58check(text: str) -> bytes:
    """The payload of ``text``, version byte first.

    Raises:
        ValueError: a character is not in the alphabet, or the checksum does not match.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"Base58Check of {len(text)} characters is too long for an address")
    number = 0
    for position, character in enumerate(text):
        digit = _DIGITS.get(character)
        if digit is None:
            raise ValueError(f"character {position + 1} is not in the Base58 alphabet")
        number = number * 58 + digit
    leading_zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    data = bytes(leading_zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
    if len(data) <= _CHECKSUM_SIZE or sha256d(payload)[:_CHECKSUM_SIZE] != checksum:
        raise ValueError("the Base58 checksum does not match")
    return payload
