"""Bech32 (BIP 173) and Bech32m (BIP 350): the encodings of witness programs."""

from collections.abc import Iterable, Iterator
from enum import Enum

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH = 6
_MAX_LENGTH = 90


class Encoding(Enum):
    """Which of the two checksums; the value is the constant that its BIP names."""

    BECH32 = 1
    BECH32M = 0x2BC830A3


def encode_segwit(hrp: str, version: int, program: bytes) -> str:
    """The address of a witness program: Bech32 for version 0, Bech32m from version 1 on.

    Raises:
        ValueError: BIP 141 does not allow the version or the length (see ``decode_segwit``).
    """
    _check_program(version, program)
    encoding = Encoding.BECH32 if version == 0 else Encoding.BECH32M
    data = [version, *_regroup(program, 8, 5, pad=True)]
    checksum = _polymod([*_expand(hrp), *data, *([0] * _CHECKSUM_LENGTH)]) ^ encoding.value
    data += [checksum >> 5 * (5 - i) & 31 for i in range(_CHECKSUM_LENGTH)]
    return hrp + "1" + "".join(_CHARSET[value] for value in data)


def decode_segwit(address: str) -> tuple[str, int, bytes]:
    """The human-readable part (lower case), witness version and program of ``address``.

    Raises:
        ValueError: names what is wrong: mixed case, characters, checksum, the wrong one of the
            two encodings, padding, version (0 to 16) or program length (2 to 40 bytes; 20 or 32
            for version 0).
    """
    hrp, data, encoding = _decode(address)
    if not data:
        raise ValueError("no witness version follows the prefix")
    version = data[0]
    program = bytes(_regroup(data[1:], 5, 8, pad=False))
    _check_program(version, program)
    if encoding is not (Encoding.BECH32 if version == 0 else Encoding.BECH32M):
        name = "Bech32" if version == 0 else "Bech32m"
        raise ValueError(f"witness version {version} must be written in {name}")
    return hrp, version, program


def _decode(text: str) -> tuple[str, list[int], Encoding]:
    """The prefix, the 5-bit values without checksum, and which checksum it was."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"{len(text)} characters are more than Bech32 allows ({_MAX_LENGTH})")
    if any(not 33 <= ord(character) <= 126 for character in text):
        raise ValueError("only printable ASCII characters may appear")
    lowered = text.lower()
    if text not in (lowered, text.upper()):
        raise ValueError("upper and lower case are mixed")
    hrp, separator, payload = lowered.rpartition("1")
    if not separator or not hrp or len(payload) < _CHECKSUM_LENGTH:
        raise ValueError("prefix, separator 1 and checksum are not all there")
    values: list[int] = []
    for position, character in enumerate(payload, start=len(hrp) + 2):
        value = _VALUES.get(character)
        if value is None:
            raise ValueError(f"character {position} is not in the Bech32 alphabet")
        values.append(value)
    try:
        encoding = Encoding(_polymod([*_expand(hrp), *values]))
    except ValueError:
        raise ValueError("the Bech32 checksum does not match") from None
    return hrp, values[:-_CHECKSUM_LENGTH], encoding


def _check_program(version: int, program: bytes) -> None:
    if not 0 <= version <= 16:
        raise ValueError(f"witness version {version} does not exist")
    if not 2 <= len(program) <= 40:
        raise ValueError(f"a witness program has 2 to 40 bytes, not {len(program)}")
    if version == 0 and len(program) not in (20, 32):
        raise ValueError(f"a version 0 witness program has 20 or 32 bytes, not {len(program)}")


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for i, term in enumerate(_GENERATOR):
            if top >> i & 1:
                checksum ^= term
    return checksum


def _expand(hrp: str) -> list[int]:
    codes = [ord(character) for character in hrp]
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _regroup(values: Iterable[int], width: int, new_width: int, *, pad: bool) -> Iterator[int]:
    """The bits of ``values`` in groups of ``new_width`` instead of ``width``."""
    pending = bits = 0
    for value in values:
        pending = pending << width | value
        bits += width
        while bits >= new_width:
            bits -= new_width
            yield pending >> bits
            pending &= (1 << bits) - 1
    if pad:
        if bits:
            yield pending << new_width - bits
    elif bits >= width or pending:
        raise ValueError("the padding is longer than needed or not zero")
