"""A job from mining.notify, and the headers that can be made of it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from devnet.bitcoin.hashing import sha256d
from devnet.bitcoin.merkle import root_from_branch

NONCES_PER_VERSION: Final = 1 << 24
"""Nonces tried before the next version bits (BIP 310), if the pool lets us roll them."""


class JobError(ValueError):
    """The pool sent something that is not a job."""


@dataclass(frozen=True, slots=True)
class Job:
    """What mining.notify says, with hashes in internal order."""

    job_id: str
    prev_hash: bytes
    before: bytes
    after: bytes
    branch: tuple[bytes, ...]
    version: int
    bits: int
    ntime: int
    clean: bool

    @classmethod
    def parse(cls, params: list[Any]) -> "Job":
        """Reads the params of mining.notify.

        Raises:
            JobError: when they are not a job.
        """
        try:
            job_id, prev, before, after, branch, version, bits, ntime, clean = params[:9]
            swapped = bytes.fromhex(prev)
            job = cls(
                job_id=str(job_id),
                prev_hash=b"".join(swapped[i : i + 4][::-1] for i in range(0, 32, 4)),
                before=bytes.fromhex(before),
                after=bytes.fromhex(after),
                branch=tuple(bytes.fromhex(item) for item in branch),
                version=int(version, 16),
                bits=int(bits, 16),
                ntime=int(ntime, 16),
                clean=bool(clean),
            )
        except (TypeError, ValueError) as error:
            raise JobError(f"the pool's job makes no sense: {error}") from None
        if len(swapped) != 32 or any(len(item) != 32 for item in job.branch):
            raise JobError("the pool's job holds a hash that is not 32 bytes long")
        if any(not 0 <= number < 1 << 32 for number in (job.version, job.bits, job.ntime)):
            raise JobError("a number of the pool's job does not have 32 bits")
        return job

    def header(self, extranonce: bytes, version: int) -> bytes:
        """The first 76 bytes of the header; the nonce follows."""
        txid = sha256d(self.before + extranonce + self.after)
        return b"".join(
            (
                version.to_bytes(4, "little"),
                self.prev_hash,
                root_from_branch(txid, self.branch),
                self.ntime.to_bytes(4, "little"),
                self.bits.to_bytes(4, "little"),
            )
        )


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job with everything that a process needs to search it.

    ``share`` of ``shares`` processes: each has its own extranonces.
    """

    job: Job
    nonce1: bytes
    nonce2_length: int
    target: int
    version_mask: int
    share: int
    shares: int

    @property
    def work(self) -> "Assignment":
        """What decides the headers: equal for assignments whose headers are the same."""
        return replace(self, job=replace(self.job, job_id="", clean=False), target=0)


@dataclass(frozen=True, slots=True)
class Range:
    """Nonces 0 to ``nonces`` - 1 of one header."""

    nonce2: bytes
    version_bits: int | None
    header: bytes
    nonces: int


def ranges(assignment: Assignment) -> Iterator[Range]:
    """Every header of an assignment, in turn: all version bits of an extranonce, then the next."""
    mask = assignment.version_mask
    job = assignment.job
    size = assignment.nonce2_length
    for number in range(assignment.share, 256**size, assignment.shares):
        nonce2 = number.to_bytes(size, "big")
        extranonce = assignment.nonce1 + nonce2
        if not mask:
            yield Range(nonce2, None, job.header(extranonce, job.version), 1 << 32)
            continue
        for count in range(1 << mask.bit_count()):
            bits = spread(count, mask)
            version = job.version & ~mask & 0xFFFFFFFF | bits
            yield Range(nonce2, bits, job.header(extranonce, version), NONCES_PER_VERSION)


def spread(count: int, mask: int) -> int:
    """The bits of ``count``, lowest first, in the places that ``mask`` has."""
    result = 0
    place = 0
    while mask >> place:
        if mask >> place & 1:
            result |= (count & 1) << place
            count >>= 1
        place += 1
    return result
