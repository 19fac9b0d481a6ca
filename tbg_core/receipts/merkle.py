"""Trees in the shape of RFC 6962 (section 2.1): roots, partial trees and consistency proofs.

What a node is, and how two are joined, is the caller's: the log of roots has the hashes of the
RFC, the trees of the receipts have sums beside them (:mod:`tbg_core.receipts.node`).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Node = TypeVar("Node")


def leaf_hash(record: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\0" + record).digest()


def join_hashes(left: bytes, right: bytes) -> bytes:
    """The hash of a node of the RFC."""
    return hashlib.sha256(b"\1" + left + right).digest()


EMPTY = hashlib.sha256().digest()
"""The root of no leaves."""


class Growing(Generic[Node]):
    """A tree that takes its leaves from left to right, in memory that grows with its height.

    Args:
        join: of two nodes.
    """

    def __init__(self, join: Callable[[Node, Node], Node]) -> None:
        self._join = join
        # Whole subtrees, each smaller than the one before: leaves, node, and what a proof of the
        # marked leaves in it needs beside these (None where none is marked).
        self._stack: list[tuple[int, Node, list[Node] | None]] = []
        self.size = 0

    def add(self, node: Node, leaves: int = 1, marked: bool = False) -> None:
        """Adds a leaf, or the root of a whole subtree.

        Args:
            node: it.
            leaves: in it: a power of two that divides the leaves before it.
            marked: whether :attr:`proof` is to prove it; of a leaf.
        """
        self.size += leaves
        proof: list[Node] | None = [] if marked else None
        stack = self._stack
        while stack and stack[-1][0] == leaves:
            node, proof = self._joined(*stack.pop()[1:], node, proof)
            leaves *= 2
        stack.append((leaves, node, proof))

    def finish(self) -> tuple[Node, list[Node]] | None:
        """The root, and the nodes that make it together with the marked leaves; None if empty.

        The nodes come in the order in which a walk from left to right needs them: the largest
        subtrees without a marked leaf.
        """
        if not self._stack:
            return None
        _, node, proof = self._stack[-1]
        for _, left, before in reversed(self._stack[:-1]):
            node, proof = self._joined(left, before, node, proof)
        return node, [node] if proof is None else proof

    def _joined(
        self, left: Node, before: list[Node] | None, right: Node, after: list[Node] | None
    ) -> tuple[Node, list[Node] | None]:
        node = self._join(left, right)
        if before is None and after is None:
            return node, None
        proof = [left] if before is None else before
        proof += [right] if after is None else after
        return node, proof


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a plain tree over these leaf hashes (MTH)."""
    tree = Growing(join_hashes)
    for leaf in leaves:
        tree.add(leaf)
    done = tree.finish()
    return done[0] if done else EMPTY


def audit_path(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """The path of one leaf, from the bottom up (RFC 6962, 2.1.1).

    Raises:
        IndexError: when there is no such leaf.
    """
    if not 0 <= place < len(leaves):
        raise IndexError(f"there is no leaf {place} among {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = split_of(len(leaves))
    if place < split:
        return [*audit_path(leaves[:split], place), root_of(leaves[split:])]
    return [*audit_path(leaves[split:], place - split), root_of(leaves[:split])]


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """What proves that the tree over the first leaves is the beginning of this one (2.1.2).

    Raises:
        IndexError: when it is larger than this one, or empty.
    """
    if not 0 < first <= len(leaves):
        raise IndexError(f"a tree of {len(leaves)} has no beginning of {first}")
    return _subproof(leaves, first, known=True)


def _subproof(leaves: Sequence[bytes], first: int, *, known: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if known else [root_of(leaves)]
    split = split_of(len(leaves))
    if first <= split:
        return [*_subproof(leaves[:split], first, known=known), root_of(leaves[split:])]
    return [
        *_subproof(leaves[split:], first - split, known=False),
        root_of(leaves[:split]),
    ]


def split_of(size: int) -> int:
    """The leaves of the left half: the largest power of two below the size."""
    return 1 << (size - 1).bit_length() - 1
