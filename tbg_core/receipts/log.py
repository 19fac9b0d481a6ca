"""The log of roots: an entry for each hour and revision, which holds the hash of the one before.

The hashes of the entries are the leaves of a plain tree of RFC 6962, so that its consistency
proofs hold for the log.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from tbg_core.receipts.merkle import leaf_hash
from tbg_core.receipts.node import Node, difficulty_of, node_json, node_of
from tbg_core.receipts.records import ENTRY

START: Final = bytes(32)
"""What the first entry holds in the place of the one before."""


class BrokenError(ValueError):
    """A log is not what it should be; the text says where."""


class Entry(NamedTuple):
    """The root of an hour.

    Attributes:
        place: in the log, from 0.
        hour: its start, in microseconds since the epoch.
        revision: 1 for the first of this hour.
        boots: engine boots in it: the leaves of its tree.
        root: over the boots, in the order of their names' bytes.
        reason: why a person published it, '' for an ordinary one.
        previous: hash of the entry before.
    """

    place: int
    hour: int
    revision: int
    boots: int
    root: Node
    reason: str
    previous: bytes

    @property
    def hash(self) -> bytes:
        """Names the entry and all before it."""
        reason = self.reason.encode()
        return leaf_hash(
            b"".join(
                (
                    ENTRY,
                    self.place.to_bytes(8, "big"),
                    self.hour.to_bytes(8, "big", signed=True),
                    self.revision.to_bytes(4, "big"),
                    self.boots.to_bytes(4, "big"),
                    self.root.packed,
                    len(reason).to_bytes(4, "big"),
                    reason,
                    self.previous,
                )
            )
        )

    def as_json(self) -> dict[str, Any]:
        """As it is published: a line of ``roots.jsonl``, and the data of ``mining:roots``."""
        return {
            "index": self.place,
            "hour": self.hour,
            "revision": self.revision,
            "boots": self.boots,
            "root": node_json(self.root),
            "difficulty": difficulty_of(self.root.work),
            "reason": self.reason,
            "previous": self.previous.hex(),
            "hash": self.hash.hex(),
        }


def parse(found: Any) -> Entry:
    """Reads what :meth:`Entry.as_json` made.

    Raises:
        BrokenError: when it is no entry, or its hash is another one.
    """
    try:
        entry = Entry(
            found["index"],
            found["hour"],
            found["revision"],
            found["boots"],
            node_of(found["root"]),
            found["reason"],
            bytes.fromhex(found["previous"]),
        )
        right = len(entry.root.hash) == len(entry.previous) == 32
        if right and entry.hash.hex() == found["hash"]:
            return entry
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BrokenError(f"not an entry of a log: {error!r}") from error
    raise BrokenError(f"entry {entry.place} has another hash than it says")


def check(entries: Iterable[Entry]) -> None:
    """Checks that entries are a log from its beginning.

    Raises:
        BrokenError: naming the first that does not follow the one before.
    """
    previous = START
    for index, entry in enumerate(entries):
        if (entry.place, entry.previous) != (index, previous):
            raise BrokenError(f"entry {index} does not follow the one before it")
        previous = entry.hash
