"""Blocks that the consensus code accepted but may not have written to disk yet.

libbitcoinkernel keeps its block index in memory and writes it about once an hour and when it is
closed; a bitcoind that was killed fetches what it lost from its peers. This node has no peers, so
it keeps every accepted block here until the kernel was closed cleanly.

Each record is framed as in Bitcoin Core's blk*.dat files: four bytes of network magic, four of
length, the block. A record that a kill cut short is not read: its block was never acknowledged.
The file survives the process but not a power cut: nothing is fsynced.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAGIC: Final = bytes.fromhex("fabfb5da")  # regtest
_HEAD_SIZE: Final = len(_MAGIC) + 4


class BlockJournal:
    """An append-only file of blocks; ``path`` is created when the first one is added."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, raw_block: bytes) -> None:
        """Appends one block; the operating system has it when this returns."""
        with self._path.open("ab", buffering=0) as file:
            file.write(_MAGIC + len(raw_block).to_bytes(4, "little") + raw_block)

    def blocks(self) -> Iterator[bytes]:
        """Every whole block in the order of arrival."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while len(head := file.read(_HEAD_SIZE)) == _HEAD_SIZE:
                size = int.from_bytes(head[len(_MAGIC) :], "little")
                raw_block = file.read(size)
                if not head.startswith(_MAGIC) or len(raw_block) < size:
                    return
                yield raw_block

    def clear(self) -> None:
        """Forgets every block, once the kernel has written them all."""
        self._path.unlink(missing_ok=True)
