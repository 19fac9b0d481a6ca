"""One searching process: takes assignments from a pipe, answers with shares and counts."""

import contextlib
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from devnet.miner.job import Assignment, Range, ranges
from devnet.miner.search import search

STEP_SECONDS: Final = 0.02  # between two checks of the pipe
FIRST_STEP: Final = 2_000  # nonces
REMEMBERED: Final = 64  # pieces of work


@dataclass(frozen=True, slots=True)
class Found:
    """A nonce whose hash meets the share target."""

    job_id: str
    nonce2: bytes
    ntime: int
    nonce: int
    version_bits: int | None
    hash: bytes


class Search:
    """The place reached in the headers of one piece of work.

    A pool may change the difficulty, or send the same work under another id, while a process
    searches. To begin its headers again would send their shares again, as duplicates.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._ranges = ranges(assignment)
        self._range: Range | None = next(self._ranges, None)
        self._start = 0

    def take(self, nonces: int) -> tuple[Range, int, int] | None:
        """The next ``nonces`` or fewer, as a header and the bounds of a half-open interval.

        None when every header was searched.
        """
        part, start = self._range, self._start
        if part is None:
            return None
        self._start = min(start + nonces, part.nonces)
        end = self._start
        if end == part.nonces:
            self._range, self._start = next(self._ranges, None), 0
        return part, start, end


class Searches:
    """The search of each recent piece of work; the pool may come back to one."""

    def __init__(self) -> None:
        self._known: dict[Assignment, Search] = {}

    def of(self, assignment: Assignment) -> Search:
        """The search that an assignment goes on with, a new one for new work."""
        search = self._known.pop(assignment.work, None) or Search(assignment)
        self._known[assignment.work] = search
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return search


def mine(pipe: Connection, max_hashrate: float) -> None:
    """Runs until the pipe ends, as it does however the parent ends.

    Args:
        pipe: brings an ``Assignment``, or None for a pause; takes ``Found``, and hashes since the last count.
        max_hashrate: hashes per second at most; 0 for no limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pipe
    searches = Searches()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        assignment: Assignment | None = None
        while True:
            while assignment is None:
                assignment = pipe.recv()
            assignment = _work(pipe, assignment, searches.of(assignment), max_hashrate)


def _work(
    pipe: Connection, assignment: Assignment, place: Search, max_hashrate: float
) -> Assignment | None:
    """Searches one assignment until another one, or a pause, comes."""
    step = FIRST_STEP
    if max_hashrate:
        step = max(1, min(step, int(max_hashrate * STEP_SECONDS)))
    while (taken := place.take(step)) is not None:
        part, start, end = taken
        began = time.perf_counter()
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
        pipe.send(end - start)
        seconds = time.perf_counter() - began
        step = max(256, min(1 << 20, int((end - start) * STEP_SECONDS / max(seconds, 1e-6))))
        wait = 0.0
        if max_hashrate:
            step = max(1, min(step, int(max_hashrate * STEP_SECONDS)))
            wait = max(0.0, (end - start) / max_hashrate - seconds)
        # This wait keeps to the limit, and ends as soon as an assignment comes.
        if pipe.poll(wait):
            latest: Assignment | None = pipe.recv()
            while pipe.poll():
                latest = pipe.recv()
            return latest
    return None
