"""CompactSize: the variable-length counts in front of lists and byte strings."""

MAX_COMPACT_SIZE = 0x02000000
"""Bitcoin Core refuses to read a longer list or byte string (MAX_SIZE, 32 MiB)."""


def pack_compact_size(value: int) -> bytes:
    """``value`` (0 to 2^64-1) in its shortest encoding of 1, 3, 5 or 9 bytes.

    Raises:
        ValueError: the value is out of range.
    """
    if value < 0 or value > 0xFFFFFFFFFFFFFFFF:
        raise ValueError(f"a CompactSize lies between 0 and 2^64-1, got {value}")
    if value < 0xFD:
        return bytes((value,))
    if value <= 0xFFFF:
        return b"\xfd" + value.to_bytes(2, "little")
    if value <= 0xFFFFFFFF:
        return b"\xfe" + value.to_bytes(4, "little")
    return b"\xff" + value.to_bytes(8, "little")


def pack_bytes(data: bytes) -> bytes:
    """``data`` with its length in front."""
    return pack_compact_size(len(data)) + data


class Reader:
    """Takes serialised fields off the front of ``data``, one after the other.

    Every method raises ``ValueError`` if the data end too early, so that a parser built on it
    never returns a shortened field.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    @property
    def remaining(self) -> int:
        """The number of bytes not yet read."""
        return len(self._data) - self.offset

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > self.remaining:
            raise ValueError(
                f"{size} bytes expected at offset {self.offset}, {self.remaining} left"
            )
        start = self.offset
        self.offset += size
        return self._data[start : self.offset]

    def uint(self, size: int) -> int:
        """The next ``size`` bytes as an unsigned little-endian integer."""
        return int.from_bytes(self.take(size), "little")

    def int32(self) -> int:
        """The next four bytes as a signed little-endian integer."""
        return int.from_bytes(self.take(4), "little", signed=True)

    def compact_size(self) -> int:
        """A CompactSize; a longer encoding than needed raises ``ValueError``, as in consensus."""
        first = self.uint(1)
        if first < 0xFD:
            return first
        size, least = {0xFD: (2, 0xFD), 0xFE: (4, 0x10000), 0xFF: (8, 0x100000000)}[first]
        value = self.uint(size)
        if value < least:
            raise ValueError(f"{value} is not in its shortest CompactSize encoding")
        if value > MAX_COMPACT_SIZE:
            raise ValueError(f"a CompactSize of {value} is larger than Bitcoin Core reads")
        return value

    def sized_bytes(self) -> bytes:
        """A byte string with its length in front."""
        return self.take(self.compact_size())
