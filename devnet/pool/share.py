"""A submitted share: what it says, and whether its hash holds it."""

import re
from dataclasses import dataclass
from typing import Any, Final

from devnet.bitcoin.difficulty import difficulty_from_target
from devnet.bitcoin.hashing import hash_to_int, sha256d
from devnet.pool.rejection import Rejection
from devnet.pool.work import Payout, Work

MAX_NTIME_AHEAD: Final = 7000
"""Seconds past the template's time that a share may roll to. Nodes refuse 7200 past their clock."""

_WORD: Final = re.compile(r"[0-9a-fA-F]{8}")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")


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
    """Reads ``[user, job, nonce2, ntime, nonce]`` and perhaps ``version_bits``; None if malformed."""
    if not 5 <= len(params) <= 6 or not all(isinstance(item, str) for item in params[:5]):
        return None
    username, job_id, nonce2, ntime, nonce = params[:5]
    bits = params[5] if len(params) == 6 else None
    # bytes.fromhex and int would take white space, signs and underscores.
    if not (_WORD.fullmatch(ntime) and _WORD.fullmatch(nonce)):
        return None
    if len(nonce2) != 2 * nonce2_length or not _HEX.fullmatch(nonce2):
        return None
    if bits is not None and not (isinstance(bits, str) and _WORD.fullmatch(bits)):
        return None
    return Submission(
        username,
        job_id,
        bytes.fromhex(nonce2),
        int(ntime, 16),
        int(nonce, 16),
        None if bits is None else int(bits, 16),
    )


def prove(
    work: Work, payout: Payout, nonce1: bytes, submission: Submission, version_mask: int
) -> Proof | Rejection:
    """Hashes the share's header, unless its version bits or its time are out of bounds.

    Version rolling as in BIP 310: the bits may differ from the job's within the mask only.
    """
    template = work.template
    bits = submission.version_bits or 0
    if bits & ~version_mask:
        return Rejection.VERSION_MASK
    if not template.curtime <= submission.ntime <= template.curtime + MAX_NTIME_AHEAD:
        return Rejection.NTIME
    version = template.version & 0xFFFFFFFF
    if submission.version_bits is not None:
        version = version & ~version_mask | bits
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
