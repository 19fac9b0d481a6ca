"""Nodes that carry sums: the work and the number of valid shares below them.

Sums are whole numbers, so that they depend neither on the order nor on rounding. The unit of
work is :data:`UNIT`, of which every difficulty that the contract allows is a whole multiple.
Both sums stand in the hash of the node above, without a sign and in a fixed width, which no
number of shares can overflow.
"""

import hashlib
from typing import Any, Final, NamedTuple

from tbg_core.receipts import merkle

WORK_BITS: Final = 96
UNIT: Final = 2.0**-WORK_BITS
"""Of difficulty 1. The smallest difficulty is 1e-12: its last binary digit stands for 2^-92."""
MOST: Final = 2.0**224
"""The highest difficulty that counts; higher ones, of before the contract had bounds, count as it."""
WORK_BYTES: Final = 48  # 2^64 shares of 2^224 are below 2^384 units
COUNT_BYTES: Final = 8


class Node(NamedTuple):
    """A subtree.

    Attributes:
        hash: 32 bytes.
        work: sum of the difficulty of the valid shares, in units.
        valid: how many there are.
    """

    hash: bytes
    work: int
    valid: int

    @property
    def packed(self) -> bytes:
        """As it stands in the node above.

        Raises:
            OverflowError: when a sum is negative, or larger than there can be.
        """
        return (
            self.hash
            + self.work.to_bytes(WORK_BYTES, "big")
            + self.valid.to_bytes(COUNT_BYTES, "big")
        )


EMPTY: Final = Node(merkle.EMPTY, 0, 0)


def join(left: Node, right: Node) -> Node:
    """The node over two."""
    # In one expression: a million leaves have a million of these.
    return Node(
        hashlib.sha256(
            b"\1"
            + left.hash
            + left.work.to_bytes(48, "big")
            + left.valid.to_bytes(8, "big")
            + right.hash
            + right.work.to_bytes(48, "big")
            + right.valid.to_bytes(8, "big")
        ).digest(),
        left.work + right.work,
        left.valid + right.valid,
    )


def work_of(difficulty: float) -> int:
    """A difficulty in units, exactly; 0 for what is no positive number."""
    return int(min(difficulty, MOST) * 2.0**WORK_BITS) if difficulty > 0 else 0


def difficulty_of(work: int) -> float:
    """Units as a difficulty, rounded once."""
    return work / (1 << WORK_BITS)


def node_json(node: Node) -> list[Any]:
    """A node as a file has it; work as decimal digits, because many readers round large numbers."""
    return [node.hash.hex(), str(node.work), node.valid]


def node_of(found: Any) -> Node:
    """Reads what :func:`node_json` made.

    Raises:
        ValueError, TypeError: when it is no node.
    """
    hashed, work, valid = found
    node = Node(bytes.fromhex(hashed), int(work), valid)
    if len(node.hash) != 32 or min(node.work, node.valid) < 0:
        raise ValueError("not a node")
    return node
