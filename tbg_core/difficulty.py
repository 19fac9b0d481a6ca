"""From difficulty to hashes."""

from typing import Final

HASHES_PER_DIFFICULTY: Final = 2**32
"""Hashes that a share of difficulty 1 takes on average.

The exact number is 2^48 / 65535, 0.0015 % more; every pool and miner uses 2^32.
"""
