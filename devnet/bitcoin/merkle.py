"""Merkle roots over transaction ids, and the branch that Stratum sends in place of the block."""

from collections.abc import Iterable, Sequence

from devnet.bitcoin.hashing import sha256d


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """The root over ``hashes`` (txids, or wtxids for the witness commitment).

    A level of odd length repeats its last hash.

    Raises:
        ValueError: there are no hashes; every block has a coinbase.
    """
    if not hashes:
        raise ValueError("a block has at least one transaction")
    level = list(hashes)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [sha256d(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def coinbase_branch(other_hashes: Sequence[bytes]) -> list[bytes]:
    """The hashes that lead from the coinbase, first in its block, to the root.

    ``other_hashes`` are the txids of every transaction but the coinbase, in block order. The
    result is the merkle branch of Stratum's ``mining.notify``, in internal order. It does not
    depend on the coinbase.
    """
    branch: list[bytes] = []
    # The coinbase's own place stays empty: its branch never contains the hashes above it.
    level: list[bytes] = list(other_hashes)
    while level:
        branch.append(level[0])
        rest = level[1:]
        if len(rest) % 2:
            rest.append(rest[-1])
        level = [sha256d(rest[i] + rest[i + 1]) for i in range(0, len(rest), 2)]
    return branch


def root_from_branch(coinbase_txid: bytes, branch: Iterable[bytes]) -> bytes:
    """The merkle root of a block with this coinbase, from its ``coinbase_branch``."""
    root = coinbase_txid
    for sibling in branch:
        root = sha256d(root + sibling)
    return root
