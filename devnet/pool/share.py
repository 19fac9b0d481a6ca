"""A submitted share: what it says, and whether its hash holds it."""

from dataclasses import dataclass
from typing import Any, Final

from devnet.bitcoin.difficulty import difficulty_from_target
from devnet.bitcoin.hashing import hash_to_int, sha256d
from devnet.pool.rejection import Rejection
from devnet.pool.values import PADDING, hex_digits
from devnet.pool.work import Payout, Work

MAX_NTIME_AHEAD: Final = 7000
"""Seconds past the template's time that a share may roll to. Nodes refuse 7200 past their clock."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The params of mining.submit, read. ``version_bits`` is None where the miner rolled none."""

    username: str
    job_id: str
    nonce2: bytes
    ntime: int
    nonce: int
    version_bits: int | None


@dataclass(frozen=True, slots=True)
class Proof:
    """The header that a share made, and how good its hash is."""

    header: bytes
    hash: bytes
    extranonce: bytes
    share_diff: float


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
    work: Work, payout: Payout, nonce1: bytes, submission: Submission, version_mask: int
) -> Proof | Rejection:
    """Hashes the share's header, unless its version bits or its time are out of bounds.

    ``version_mask`` is the pool's, whether the miner asked for it (BIP 310) or not: rented ASICs
    roll all the same. A job has no version bits within it (``Works``), so that it makes no
    difference whether a miner sends the bits of its version or what it changed in the job's.
    """
    template = work.template
    bits = submission.version_bits or 0
    if bits & ~version_mask:
        return Rejection.VERSION_MASK
    if not template.curtime <= submission.ntime <= template.curtime + MAX_NTIME_AHEAD:
        return Rejection.NTIME
    version = template.version & 0xFFFFFFFF | bits
    extranonce = nonce1 + submission.nonce2
    header = work.header(payout, extranonce, version, submission.ntime, submission.nonce)
    digest = sha256d(header)
    return Proof(header, digest, extranonce, difficulty_from_target(hash_to_int(digest)))


def judge(work: Work, proof: Proof, difficulty: float) -> Rejection | None:
    """Why a share whose hash is known is refused, or None; an accepted one is remembered.

    Only shares that met their difficulty are looked up and kept, so that memory costs work.
    """
    if work.stale:
        return Rejection.STALE
    if proof.share_diff < difficulty:
        return Rejection.LOW_DIFFICULTY
    if proof.hash in work.seen:
        return Rejection.DUPLICATE
    work.seen.add(proof.hash)
    return None
