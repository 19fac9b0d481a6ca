"""One searching process: takes assignments from a pipe, answers with shares and counts."""

import contextlib
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from devnet.miner.job import Assignment, ranges
from devnet.miner.search import search

STEP_SECONDS: Final = 0.02  # between two looks at the pipe
FIRST_STEP: Final = 2_000  # nonces


@dataclass(frozen=True, slots=True)
class Found:
    """A nonce whose hash meets the share target."""

    job_id: str
    nonce2: bytes
    ntime: int
    nonce: int
    version_bits: int | None
    hash: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """Hashes done since the last word."""

    hashes: int


def mine(pipe: Connection, max_hashrate: float) -> None:
    """Runs until the pipe ends, which it does when the parent is gone, however it went.

    Args:
        pipe: brings an ``Assignment``, or None for a pause; takes ``Found`` and ``Progress``.
        max_hashrate: hashes per second at most; 0 for as many as there are.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pipe
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        assignment: Assignment | None = None
        while True:
            while assignment is None:
                assignment = pipe.recv()
            assignment = _work(pipe, assignment, max_hashrate)


def _work(pipe: Connection, assignment: Assignment, max_hashrate: float) -> Assignment | None:
    """Searches one assignment until another one, or a pause, comes."""
    step = FIRST_STEP
    for part in ranges(assignment):
        start = 0
        while start < part.nonces:
            began = time.perf_counter()
            end = min(start + step, part.nonces)
            for nonce, digest in search(part.header, start, end, assignment.target):
                pipe.send(
                    Found(
                        assignment.job.job_id,
                        part.nonce2,
                        assignment.job.ntime,
                        nonce,
                        part.version_bits,
                        digest,
                    )
                )
            pipe.send(Progress(end - start))
            seconds = time.perf_counter() - began
            step = max(256, min(1 << 20, int((end - start) * STEP_SECONDS / max(seconds, 1e-6))))
            wait = 0.0
            if max_hashrate:
                step = max(1, min(step, int(max_hashrate * STEP_SECONDS)))
                wait = max(0.0, (end - start) / max_hashrate - seconds)
            start = end
            # Also the brake: an assignment is seen at once, even while we wait.
            if pipe.poll(wait):
                latest: Assignment | None = pipe.recv()
                while pipe.poll():
                    latest = pipe.recv()
                return latest
    return None
