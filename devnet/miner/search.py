"""The search itself: double SHA-256 over nonces, from the midstate on.

The first 64 bytes of a header do not hold the nonce, so their SHA-256 state is computed once and
copied for each nonce. hashlib does 1.3 million nonces a second on one core here; the same in numpy,
over vectors of nonces, half of that.
"""

import struct
from collections.abc import Iterator
from hashlib import sha256

_pack_nonce = struct.Struct("<I").pack


def search(header: bytes, start: int, end: int, target: int) -> Iterator[tuple[int, bytes]]:
    """The nonces from ``start`` to before ``end`` whose hash meets ``target``, and the hashes.

    ``header`` is the 76 bytes before the nonce.
    """
    copy = sha256(header[:64]).copy
    tail = header[64:]
    # Nearly every hash fails on its highest byte, the last one in internal order.
    highest = target >> 248
    for nonce in range(start, end):
        state = copy()
        state.update(tail + _pack_nonce(nonce))
        digest = sha256(state.digest()).digest()
        if digest[31] <= highest and int.from_bytes(digest, "little") <= target:
            yield nonce, digest
