"""Double SHA-256, and the two orders in which Bitcoin writes a hash."""

from hashlib import sha256

HASH_SIZE = 32
NULL_HASH = bytes(HASH_SIZE)
"""32 zero bytes: the previous hash of a genesis block, the outpoint of a coinbase input."""


def sha256d(data: bytes) -> bytes:
    """SHA-256 of the SHA-256 of ``data``: the hash of block headers and transactions."""
    return sha256(sha256(data).digest()).digest()


def to_display(digest: bytes) -> str:
    """A hash in internal order as the reversed hex that RPCs show.

    Raises:
        ValueError: the hash does not have 32 bytes.
    """
    if len(digest) != HASH_SIZE:
        raise ValueError(f"a hash has {HASH_SIZE} bytes, got {len(digest)}")
    return digest[::-1].hex()


def from_display(text: str) -> bytes:
    """The internal order of a hash shown as 64 hex digits.

    Raises:
        ValueError: the text is anything but 64 hex digits.
    """
    if len(text) != 2 * HASH_SIZE:
        raise ValueError(f"a hash has {2 * HASH_SIZE} hex digits, got {len(text)}")
    digest = bytes.fromhex(text)
    if len(digest) != HASH_SIZE:  # bytes.fromhex skips white space
        raise ValueError("a hash is written in hex digits only")
    return digest[::-1]


def hash_to_int(digest: bytes) -> int:
    """The number that proof of work compares with the target: the hash read little-endian."""
    return int.from_bytes(digest, "little")
