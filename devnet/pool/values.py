"""Numbers, hex and text from strangers, read leniently and cleaned once.

Firmware writes the same value in many ways: without leading zeros, with ``0x``, as text instead
of a number, with white space or a NUL behind it. Such a value is unambiguous, and the share's hash
confirms it. An ambiguous value is refused.
"""

import re
from typing import Any, Final

from tbg_core import wording

PADDING: Final = " \t\n\r\v\f\0"
"""Characters that mean nothing around a value."""

_HEX: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]+)")
_NUMBER: Final = re.compile(r"\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_MAX_NUMBER: Final = 64  # characters of a number that is written as text
_BYTES: Final = re.compile(r"(?:[0-9a-fA-F]{2}){1,32}")


def hex_digits(value: Any, size: int) -> str | None:
    """The lower-case hex of ``size`` digits that ``value`` means, or None.

    Leading zeros may be missing, and ``0x`` may stand in front.
    """
    if not isinstance(value, str):
        return None
    match = _HEX.fullmatch(value.strip(PADDING))
    return match[1].lower().zfill(size) if match and len(match[1]) <= size else None


def mask_bits(value: Any) -> int:
    """The 32 bits of a version mask, as hex text (BIP 310) or as a number; 0 for anything else."""
    if isinstance(value, str):
        return int(hex_digits(value, 8) or "0", 16)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return 0
    return int(value) if 0 <= value < 2**32 else 0


def difficulty(value: Any) -> float | None:
    """The difficulty that ``value`` means, as a number, a decimal text or ``0x`` text, or None."""
    if isinstance(value, str):
        text = value.strip(PADDING)
        if text[:2].lower() == "0x":
            value = int(hex_digits(text, _MAX_NUMBER) or "0", 16)
        elif len(text) <= _MAX_NUMBER and _NUMBER.fullmatch(text):
            value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e300 else None  # NaN is not above 0


def printable(text: str, limit: int) -> str:
    """``text`` without what cannot be printed, cut to ``limit``: a value of events."""
    return wording.printable(text, limit, instead="", ending="")


def printable_or_none(value: Any, limit: int) -> str | None:
    """The printable part of ``value``; None if it is not text or if nothing remains."""
    return printable(value, limit) or None if isinstance(value, str) else None


def hex_or_none(value: Any) -> str | None:
    """``value`` in lower case if it is the hex of 1 to 32 bytes, else None."""
    return value.lower() if isinstance(value, str) and _BYTES.fullmatch(value) else None
