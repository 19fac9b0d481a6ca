"""Blocks that hold only a coinbase, mined by trying nonces."""

import os
from dataclasses import replace
from typing import Final

from devnet.bitcoin.block import pack_block
from devnet.bitcoin.coinbase import coinbase_transaction, witness_commitment_script
from devnet.bitcoin.difficulty import target_from_bits
from devnet.bitcoin.header import BlockHeader
from devnet.bitcoin.script import push
from devnet.bitcoin.subsidy import REGTEST_HALVING_INTERVAL, block_subsidy
from devnet.bitcoin.transaction import TxOutput
from devnet.node.kernel import Entry, Kernel

BLOCK_VERSION: Final = 0x20000000
"""No deployment is signalled (BIP 9)."""

MEDIAN_TIME_SPAN: Final = 11
"""Blocks whose median time the next block must exceed (BIP 113)."""

_RETARGET_INTERVAL: Final = 144
_MAX_TIMEWARP: Final = 600
"""Seconds that the first block of an interval may lie before its parent (BIP 94). Regtest does not
enforce it; Bitcoin Core's templates keep to it on every network, and so do ours."""


def median_time(kernel: Kernel, entry: Entry) -> int:
    """The median time of ``entry`` and the ten blocks before it, in seconds (BIP 113)."""
    times = [entry.header.time]
    while len(times) < MEDIAN_TIME_SPAN:
        parent = kernel.entry(entry.header.prev_hash)
        if parent is None:
            break
        entry = parent
        times.append(entry.header.time)
    times.sort()
    return times[len(times) // 2]


def minimum_time(kernel: Kernel, parent: Entry) -> int:
    """The earliest time that a block on top of ``parent`` may carry, in seconds."""
    earliest = median_time(kernel, parent) + 1
    if (parent.height + 1) % _RETARGET_INTERVAL == 0:
        earliest = max(earliest, parent.header.time - _MAX_TIMEWARP)
    return earliest


def subsidy_after(parent: Entry) -> int:
    """Satoshis that a block on top of ``parent`` may create."""
    return block_subsidy(parent.height + 1, REGTEST_HALVING_INTERVAL)


def mine_block(kernel: Kernel, parent: Entry, script_pubkey: bytes, now: int) -> bytes:
    """A valid serialised block on top of ``parent`` that pays its whole reward to one script.

    Random bytes in the coinbase make every block a different one, so that two branches from the
    same parent never coincide.
    """
    coinbase = coinbase_transaction(
        parent.height + 1,
        [
            TxOutput(subsidy_after(parent), script_pubkey),
            TxOutput(0, witness_commitment_script([])),
        ],
        script_sig_tail=push(os.urandom(8)),
    )
    header = BlockHeader(
        version=BLOCK_VERSION,
        prev_hash=parent.hash,
        merkle_root=coinbase.txid,
        time=max(now, minimum_time(kernel, parent)),
        bits=parent.header.bits,  # regtest never retargets
        nonce=0,
    )
    return pack_block(solve(header).pack(), [coinbase.pack()])


def solve(header: BlockHeader) -> BlockHeader:
    """``header`` with the first nonce that meets its own target: on regtest about every other.

    Raises:
        ValueError: no nonce does.
    """
    target = target_from_bits(header.bits)
    for nonce in range(2**32):
        candidate = replace(header, nonce=nonce)
        if candidate.meets(target):
            return candidate
    raise ValueError("no nonce of this header meets its target")
