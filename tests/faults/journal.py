"""What an engine emitted and handed to the socket: a book of the suite's own, beside the product's.

A mapped file of one word for each number, which outlives a ``kill -9`` of the engine. It says
that the event was emitted, whether it breaks the contract, and which receiver took it last.
"""

import mmap
from pathlib import Path

MOST = 500_000  # numbers of one boot
BROKEN = 1 << 15
HANDED = 2  # to receiver 0; one more for each later receiver
_NAME = 256  # bytes


class Journal:
    """The journal of one boot; made if it is missing."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(_NAME + 2 * (MOST + 1))
            self._map = mmap.mmap(file.fileno(), 0)
        self.words = memoryview(self._map)[_NAME:].cast("H")

    @property
    def name(self) -> str:
        """The boot's instance; empty if the process died before it had one."""
        return self._map[:_NAME].rstrip(b"\0").decode()

    @name.setter
    def name(self, name: str) -> None:
        self._map[: len(name)] = name.encode()

    def will_emit(self, seq: int, *, broken: bool) -> None:
        """Notes a number before the engine gives it: a kill may come between the two."""
        self.words[seq] = 1 | (BROKEN if broken else 0)

    def handed(self, seq: int, receiver: int) -> None:
        """Notes that the socket of a receiver took it."""
        self.words[seq] = self.words[seq] & BROKEN | HANDED + receiver

    def read(self) -> list[int]:
        """The words of the numbers from 1 on, without the mark of the broken ones."""
        return [word & ~BROKEN for word in self._until_the_end()]

    def broken(self) -> set[int]:
        """Numbers of events that break the contract."""
        return {seq for seq, word in enumerate(self._until_the_end(), 1) if word & BROKEN}

    def _until_the_end(self) -> list[int]:
        low, high = 0, MOST  # the last number that was given lies between
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.words[middle] else (low, middle - 1)
        return self.words[1 : low + 1].tolist()
