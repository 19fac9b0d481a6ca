"""Whole blocks: a header and its transactions."""

from collections.abc import Sequence
from dataclasses import dataclass

from devnet.bitcoin.compact_size import Reader, pack_compact_size
from devnet.bitcoin.header import HEADER_SIZE, BlockHeader
from devnet.bitcoin.transaction import Transaction


def pack_block(header: bytes, transactions: Sequence[bytes]) -> bytes:
    """A block as ``submitblock`` takes it, from the 80-byte header and serialised transactions.

    The coinbase comes first, with its witness (``Transaction.pack()``) when the block has a
    witness commitment; the rest in the template's order, each its ``data``.

    Raises:
        ValueError: the header does not have 80 bytes.
    """
    if len(header) != HEADER_SIZE:
        raise ValueError(f"a block header has {HEADER_SIZE} bytes, got {len(header)}")
    return b"".join((header, pack_compact_size(len(transactions)), *transactions))


@dataclass(frozen=True, slots=True)
class Block:
    """A block's header and transactions."""

    header: BlockHeader
    transactions: tuple[Transaction, ...]

    def pack(self, *, witness: bool = True) -> bytes:
        """The serialisation; ``witness=False`` gives the form whose length is ``strippedsize``."""
        return pack_block(
            self.header.pack(),
            [item.pack(witness=witness) for item in self.transactions],
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Block":
        """The block at the start of ``data``; what follows it is ignored, as in Bitcoin Core's RPCs.

        Raises:
            ValueError: ``data`` does not begin with a block.
        """
        reader = Reader(data)
        header = BlockHeader.unpack(reader.take(HEADER_SIZE))
        count = reader.compact_size()
        return cls(header, tuple(Transaction.read(reader) for _ in range(count)))
