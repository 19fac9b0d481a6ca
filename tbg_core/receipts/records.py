"""The bytes of every leaf. Two different records never have the same bytes.

Numbers have a fixed width, big-endian; a text or hash has its length in front (four bytes);
what may be absent has one byte in front that says so. The first byte names the kind.
"""

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from tbg_core.receipts.merkle import leaf_hash
from tbg_core.receipts.node import Node, work_of

SHARE: Final = b"\1"
EVENT: Final = b"\2"
REFUSED: Final = b"\3"
DROPPED: Final = b"\4"
MISSING: Final = b"\5"
BOOT: Final = b"\6"
ENTRY: Final = b"\7"

_HEAD: Final = struct.Struct(">cQq")
_DOUBLE: Final = struct.Struct(">d")
_SOME_DOUBLE: Final = struct.Struct(">cd")
_LENGTH: Final = struct.Struct(">I")
_NONE: Final = b"\0"
_SOME: Final = b"\1"


class Share(NamedTuple):
    """A share as its leaf has it. ``micros`` is its time in microseconds since the epoch."""

    seq: int
    micros: int
    user: str | None
    worker: str | None
    difficulty: float
    share_diff: float | None
    valid: bool
    reject_reason: str | None
    hash: bytes | None
    source: str


class Event(NamedTuple):
    """Any other event; ``digest`` is what ``event_digest`` of the schema makes of what it says."""

    seq: int
    micros: int
    digest: bytes


class Boot(NamedTuple):
    """What an hour holds of an engine boot: the numbers ``first`` to ``last`` and their tree."""

    instance: str
    first: int
    last: int
    tree: Node


def _text(value: str) -> bytes:
    raw = value.encode()
    return _LENGTH.pack(len(raw)) + raw


# Names, sources and reasons come again and again.
_known_text = lru_cache(maxsize=131_072)(
    lambda value: _NONE if value is None else _SOME + _text(value)
)
_known_work = lru_cache(maxsize=65_536)(work_of)


def share_record(share: Share) -> bytes:
    """The bytes of a share."""
    seq, micros, user, worker, difficulty, share_diff, valid, reason, found, source = share
    return b"".join(
        (
            _HEAD.pack(SHARE, seq, micros),
            _known_text(user),
            _known_text(worker),
            _DOUBLE.pack(difficulty),
            _NONE if share_diff is None else _SOME_DOUBLE.pack(_SOME, share_diff),
            _SOME if valid else _NONE,
            _known_text(reason),
            _NONE if found is None else _SOME + _LENGTH.pack(len(found)) + found,
            _known_text(source),
        )
    )


def share_leaf(share: Share) -> Node:
    """The leaf of a share: an invalid one counts for nothing."""
    hashed = leaf_hash(share_record(share))
    return Node(hashed, _known_work(share.difficulty), 1) if share.valid else Node(hashed, 0, 0)


def event_leaf(event: Event) -> Node:
    """The leaf of another event: it holds the digest of what the event says."""
    return Node(leaf_hash(_HEAD.pack(EVENT, event.seq, event.micros) + event.digest), 0, 0)


@lru_cache(maxsize=3)
def statement_leaf(kind: bytes) -> Node:
    """The leaf of a number that has no row: its place in the tree says which number it is."""
    return Node(leaf_hash(kind), 0, 0)


def boot_leaf(boot: Boot) -> Node:
    """The leaf of a boot in the tree of its hour."""
    record = b"".join(
        (
            BOOT,
            _text(boot.instance),
            boot.first.to_bytes(8, "big"),
            boot.last.to_bytes(8, "big"),
            boot.tree.packed,
        )
    )
    return Node(leaf_hash(record), boot.tree.work, boot.tree.valid)
