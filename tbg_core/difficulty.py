"""From difficulty to hashes."""

import math
from typing import Final

HASHES_PER_DIFFICULTY: Final = 2**32
"""Hashes that a share of difficulty 1 takes on average.

The exact number is 2^48 / 65535, 0.0015 % more; every pool and miner uses 2^32.
"""


def block_chance(hash_rate: float, seconds: float, network_difficulty: float | None) -> float:
    """The chance, 0 to 1, of a block within so many seconds.

    The time to a block is exponential with mean D * 2^32 / hash rate.

    Args:
        hash_rate: H/s.
        seconds: span.
        network_difficulty: D; None while it is not known, and the chance 0.
    """
    if not network_difficulty:
        return 0.0
    return -math.expm1(-seconds * hash_rate / (network_difficulty * HASHES_PER_DIFFICULTY))
