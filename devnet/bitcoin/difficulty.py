"""Targets, their compact form, and difficulty: one number in three notations.

Difficulty 1 is the target 0x00000000ffff0000…0000 (compact 0x1d00ffff), which takes about 2^32
hashes. ``truediffone`` in ckpool and ``getdifficulty`` in Bitcoin Core use the same unit.
"""

import math
from fractions import Fraction

DIFFICULTY_1_TARGET = 0xFFFF << 208
MAX_TARGET = (1 << 256) - 1


def target_from_bits(bits: int) -> int:
    """The target of a compact ``nBits`` (three bytes of mantissa, one of exponent, base 256).

    Raises:
        ValueError: Bitcoin Core calls it a bad compact target: negative, zero or over 256 bits.
    """
    if not 0 <= bits <= 0xFFFFFFFF:
        raise ValueError(f"nBits has 32 bits, got {bits}")
    exponent, mantissa = bits >> 24, bits & 0x007FFFFF
    shift = 8 * (exponent - 3)
    target = mantissa << shift if shift >= 0 else mantissa >> -shift
    if bits & 0x00800000 and mantissa:
        raise ValueError(f"nBits {bits:08x} is a negative target")
    if target == 0 or target > MAX_TARGET:
        raise ValueError(f"nBits {bits:08x} is not a target between 1 and 2^256-1")
    return target


def difficulty_from_target(target: int) -> float:
    """How many times harder than difficulty 1 it is to meet ``target``; inf for a target of 0.

    With the value of a hash as ``target``, it is the share difficulty that the hash achieved.
    """
    return DIFFICULTY_1_TARGET / target if target else math.inf


def difficulty_from_bits(bits: int) -> float:
    """The difficulty of a compact target.

    Raises:
        ValueError: as :func:`target_from_bits`.
    """
    return difficulty_from_target(target_from_bits(bits))


def target_from_difficulty(difficulty: float) -> int:
    """The largest target of at least this difficulty, between 1 and 2^256-1.

    Exact rational arithmetic, so that tiny and huge difficulties keep every digit of the float.

    Raises:
        ValueError: the difficulty is not finite and above 0.
    """
    if not (math.isfinite(difficulty) and difficulty > 0):
        raise ValueError(f"a difficulty is finite and above 0, got {difficulty}")
    target = math.floor(DIFFICULTY_1_TARGET / Fraction(difficulty))
    return min(max(target, 1), MAX_TARGET)


def work_from_target(target: int) -> int:
    """The expected number of hashes to meet ``target``, which Bitcoin Core sums to chainwork.

    Raises:
        ValueError: the target is not between 1 and 2^256-1.
    """
    if not 0 < target <= MAX_TARGET:
        raise ValueError("a target lies between 1 and 2^256-1")
    return (1 << 256) // (target + 1)
