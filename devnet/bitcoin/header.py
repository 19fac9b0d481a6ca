"""The 80-byte block header."""

import struct
from dataclasses import dataclass

from devnet.bitcoin.hashing import HASH_SIZE, hash_to_int, sha256d, to_display

HEADER_SIZE = 80

_LAYOUT = struct.Struct("<i32s32sIII")


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The fields of a block header, in the order in which they are hashed.

    ``version`` is signed, as the consensus code reads it. ``time`` is in seconds since the epoch.
    ``bits`` is the target in compact form (see ``difficulty``).
    """

    version: int
    prev_hash: bytes
    merkle_root: bytes
    time: int
    bits: int
    nonce: int

    def pack(self) -> bytes:
        """The 80 bytes that are hashed.

        Raises:
            ValueError: a hash does not have 32 bytes, or a number does not fit its field.
        """
        if len(self.prev_hash) != HASH_SIZE or len(self.merkle_root) != HASH_SIZE:
            raise ValueError("prev_hash and merkle_root have 32 bytes each")
        try:
            return _LAYOUT.pack(
                self.version,
                self.prev_hash,
                self.merkle_root,
                self.time,
                self.bits,
                self.nonce,
            )
        except struct.error as error:
            raise ValueError(f"a header field is out of range: {error}") from error

    @classmethod
    def unpack(cls, data: bytes) -> "BlockHeader":
        """The header in ``data``.

        Raises:
            ValueError: ``data`` does not have 80 bytes.
        """
        if len(data) != HEADER_SIZE:
            raise ValueError(f"a block header has {HEADER_SIZE} bytes, got {len(data)}")
        return cls(*_LAYOUT.unpack(data))

    @property
    def hash(self) -> bytes:
        """The block's hash, in internal order."""
        return sha256d(self.pack())

    @property
    def hash_hex(self) -> str:
        """The block's hash as RPCs show it."""
        return to_display(self.hash)

    def meets(self, target: int) -> bool:
        """Whether the hash is proof of work for ``target`` (equality counts)."""
        return hash_to_int(self.hash) <= target
