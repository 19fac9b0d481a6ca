"""A submitted share: what it claims, and whether its hash proves it."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from devnet.bitcoin.difficulty import difficulty_from_target
from devnet.bitcoin.hashing import hash_to_int, sha256d, to_display
from devnet.pool.identity import Miner
from devnet.pool.rejection import Rejection
from devnet.pool.values import PADDING, hex_digits, hex_or_none, printable_or_none
from devnet.pool.work import Payout, Work
from tbg_core.events import MAX_PROOF

MAX_JOB_ID: Final = 128  # characters, as in the event contract
MAX_NTIME_AHEAD: Final = 7000
"""Seconds that a share may be ahead of the template's time, or of ours if that is later. Nodes
refuse 7200 past their clock."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The params of mining.submit. ``version_bits`` is None if the miner rolled none."""

    username: str
    job_id: str
    nonce2: bytes
    ntime: int
    nonce: int
    version_bits: int | None


@dataclass(frozen=True, slots=True)
class Solution:
    """The header that a share made of a work, and how good its hash is."""

    work: Work
    payout: Payout
    extranonce: bytes
    header: bytes
    hash: bytes
    share_diff: float

    def proof(self) -> dict[str, Any] | None:
        """What anyone needs to check the share, as events carry it; None if it is too large.

        ``header`` and ``coinbase`` are hex of the bytes that are hashed. ``branch`` leads from
        the coinbase, always on the left, to the header's merkle root, in internal byte order.
        """
        proof = {
            "header": self.header.hex(),
            "coinbase": self.work.coinbase(self.payout, self.extranonce).hex(),
            "branch": [item.hex() for item in self.work.branch],
        }
        return proof if len(msgspec.json.encode(proof)) < MAX_PROOF else None


@dataclass(frozen=True, slots=True)
class Share:
    """One share as it was judged; accepted if ``rejection`` is None.

    ``difficulty`` is what it was held to. ``solution`` is None if its hash was never computed.
    """

    miner: Miner
    timestamp: int
    params: list[Any]
    nonce2_length: int
    difficulty: float
    network_difficulty: float
    rejection: Rejection | None
    solution: Solution | None = None

    def fields(self) -> dict[str, Any]:
        """The share's own fields of its event; what the miner wrote is cleaned, or null."""
        sent = [*self.params[:6], *[None] * 6]
        solution, rejection = self.solution, self.rejection

        def digits(value: Any, size: int) -> str | None:
            return hex_digits(value, size) or hex_or_none(value)

        return {
            "difficulty": self.difficulty,
            "share_diff": solution.share_diff if solution else None,
            "valid": rejection is None,
            "reject_reason": rejection.reason if rejection else None,
            "job_id": printable_or_none(sent[1], MAX_JOB_ID),
            "nonce": digits(sent[4], 8),
            "nonce2": digits(sent[2], 2 * self.nonce2_length),
            "ntime": digits(sent[3], 8),
            "hash": to_display(solution.hash) if solution else None,
            "version_bits": digits(sent[5], 8),
            "network_difficulty": self.network_difficulty,
        }


def parse_submission(params: list[Any], nonce2_length: int) -> Submission | None:
    """Reads ``[user, job, nonce2, ntime, nonce]`` and perhaps version bits; None if malformed.

    Version bits that are null or empty mean that none were rolled. What follows them is ignored.
    """
    if len(params) < 5 or not isinstance(params[0], str) or not isinstance(params[1], str):
        return None
    rolled = params[5] if len(params) > 5 else None
    if isinstance(rolled, str) and not rolled.strip(PADDING):
        rolled = None
    nonce2 = hex_digits(params[2], 2 * nonce2_length)
    ntime, nonce = hex_digits(params[3], 8), hex_digits(params[4], 8)
    bits = None if rolled is None else hex_digits(rolled, 8)
    if nonce2 is None or ntime is None or nonce is None or (bits is None) is not (rolled is None):
        return None
    return Submission(
        params[0],
        params[1].strip(PADDING),
        bytes.fromhex(nonce2),
        int(ntime, 16),
        int(nonce, 16),
        None if bits is None else int(bits, 16),
    )


def prove(
    work: Work,
    payout: Payout,
    nonce1: bytes,
    submission: Submission,
    version_mask: int,
    now: int = 0,
) -> Solution | Rejection:
    """Hashes the share's header, unless its version bits or its time are out of bounds.

    ``now`` is our time in seconds since the epoch: with a node that gives no new template for
    hours, it is far past the template's.

    ``version_mask`` is the pool's, whether the miner asked for it (BIP 310) or not: rented ASICs
    roll all the same. A job has no version bits within it (``Works``), so that it makes no
    difference whether a miner sends the bits of its version or what it changed in the job's.
    """
    template = work.template
    bits = submission.version_bits or 0
    if bits & ~version_mask:
        return Rejection.VERSION_MASK
    latest = max(template.curtime, now) + MAX_NTIME_AHEAD
    if not template.curtime <= submission.ntime <= latest:
        return Rejection.NTIME
    version = template.version & 0xFFFFFFFF | bits
    extranonce = nonce1 + submission.nonce2
    header = work.header(payout, extranonce, version, submission.ntime, submission.nonce)
    digest = sha256d(header)
    achieved = difficulty_from_target(hash_to_int(digest))
    return Solution(work, payout, extranonce, header, digest, achieved)


def judge(solution: Solution, difficulty: float) -> Rejection | None:
    """Why a share whose hash is known is refused, or None; an accepted one is remembered.

    Only shares that met their difficulty are looked up and kept, so that memory costs work.
    """
    work = solution.work
    if work.stale:
        return Rejection.STALE
    if solution.share_diff < difficulty:
        return Rejection.LOW_DIFFICULTY
    if solution.hash in work.seen:
        return Rejection.DUPLICATE
    work.seen.add(solution.hash)
    return None


def solves(solution: Solution, block_difficulty: float | None) -> bool:
    """Whether a share is a block: within the network's target, and hard enough for us.

    ``block_difficulty`` is for regtest, whose target every other hash meets.
    """
    within = hash_to_int(solution.hash) <= solution.work.target
    return within and solution.share_diff >= (block_difficulty or 0.0)
