"""Extranonces that keep connections apart."""

import os


class Nonces:
    """Hands out an extranonce1 of ``size`` bytes to each connection, no two open ones the same.

    The first is random: miners that reconnect after a restart of the pool do not repeat their work.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._last = int.from_bytes(os.urandom(size), "big")
        self.open: set[bytes] = set()

    def take(self) -> bytes:
        """The next one that no open connection has."""
        while True:  # ends: the configuration has more of them than connections
            self._last = (self._last + 1) % 256**self._size
            nonce = self._last.to_bytes(self._size, "big")
            if nonce not in self.open:
                self.open.add(nonce)
                return nonce

    def release(self, nonce: bytes) -> None:
        """Its connection has ended."""
        self.open.discard(nonce)
