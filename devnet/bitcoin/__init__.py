"""Bitcoin's data structures and formulas, as the devnet's node, pool and miner share them.

Pure functions and frozen dataclasses, no I/O. Two conventions hold in every module:

- A hash of type ``bytes`` is in *internal* byte order, as SHA-256 returns it and as it is
  serialised into headers and transactions. ``hashing.to_display`` and ``hashing.from_display``
  convert to and from the reversed hex that RPCs and block explorers show.
- Malformed input raises ``ValueError`` or a subclass of it, and nothing else.
"""
