"""Block hashes that fit a share difficulty, without the work."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from devnet.bitcoin.difficulty import DIFFICULTY_1_TARGET

_TARGET_1: Final = float(DIFFICULTY_1_TARGET)
_MANTISSA: Final = 53  # bits of a double


def forge_hashes(share_diff: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One hash for each share difficulty, in display order (n by 32 bytes).

    Read as a number, a hash is the difficulty 1 target divided by the share difficulty, exact
    to a double's 53 bits; the bits below are random. Share difficulties must lie between 1e-9
    and 1e50.
    """
    count = len(share_diff)
    fraction, exponent = np.frexp(_TARGET_1 / share_diff)
    mantissa = np.ldexp(fraction, _MANTISSA).astype(np.uint64)
    lowest = (exponent - _MANTISSA).astype(np.int64)  # the bit where the mantissa begins
    shift = (lowest & 63).astype(np.uint64)
    words = rng.integers(0, 2**64, size=(count, 4), dtype=np.uint64)  # most significant first
    rows = np.arange(count)
    low = 3 - (lowest >> 6)  # the word that holds that bit
    one = np.uint64(1)
    words[rows, low] = (mantissa << shift) | (words[rows, low] & ((one << shift) - one))
    # In two steps, because a shift by 64 is undefined.
    carried = (mantissa >> one) >> (np.uint64(63) - shift)
    inner = low > 0
    words[rows[inner], low[inner] - 1] = carried[inner]
    for word in range(3):
        words[low - 1 > word, word] = 0
    return words.astype(">u8").view(np.uint8).reshape(count, 32)
