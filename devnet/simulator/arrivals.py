"""When shares arrive, who sends them, how good they are, and which of them are refused."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from devnet.simulator.lifecycle import Segments
from devnet.simulator.proof import forge_hashes
from devnet.simulator.scenario import Scenario
from tbg_core.difficulty import HASHES_PER_DIFFICULTY


class ShareOutcome(IntEnum):
    """What the pool says to a share."""

    ACCEPTED = 0
    STALE = 1
    ABOVE_TARGET = 2
    DUPLICATE = 3
    NTIME = 4
    UNKNOWN_JOB = 5
    MALFORMED = 6


REJECT_REASONS: Final = {
    ShareOutcome.STALE: "Stale",
    ShareOutcome.ABOVE_TARGET: "Above target",
    ShareOutcome.DUPLICATE: "Duplicate",
    ShareOutcome.NTIME: "Ntime out of range",
    ShareOutcome.UNKNOWN_JOB: "Invalid JobID",
    ShareOutcome.MALFORMED: "Invalid array size",
}
"""ckpool's words (SHARE_ERR)."""

_REJECT_WEIGHTS: Final = np.array([0.55, 0.20, 0.15, 0.03, 0.05, 0.02])

PROOF_DIGITS: Final = 96
"""Hex digits for each share in ``Arrivals.proof``: hash 64, nonce 8, nonce2 16, version bits 8."""

_VERSION_MASK: Final = 0x1FFFE000  # BIP 320


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The shares of one window in the order of time, as columns.

    ``time`` is in seconds from the start, ``machine`` a number in the fleet, ``share_diff`` what
    the hash achieved, ``verdict`` a ``ShareOutcome`` and ``proof`` the hex digits of all shares, each
    ``PROOF_DIGITS`` long.
    """

    time: NDArray[np.float64]
    machine: NDArray[np.int64]
    share_diff: NDArray[np.float64]
    verdict: NDArray[np.int64]
    proof: str


def draw_arrivals(
    segments: Segments,
    hashrate: NDArray[np.float64],
    swing: float,
    scenario: Scenario,
    rng: np.random.Generator,
) -> Arrivals:
    """The shares of all segments.

    Shares of a machine are a Poisson process of ``hashrate / (difficulty * 2^32)`` a second:
    their number in a segment is Poisson-distributed, and given the number each time is uniform.
    A hash is uniform, so a share that meets its target has the difficulty ``difficulty / u``
    with u uniform in (0, 1]. ``swing`` multiplies all hashrates.
    """
    per_second = swing * hashrate[segments.machine] / (segments.difficulty * HASHES_PER_DIFFICULTY)
    duration = segments.end - segments.begin
    counts = rng.poisson(per_second * duration)
    total = int(counts.sum())
    time = np.repeat(segments.begin, counts) + rng.random(total) * np.repeat(duration, counts)
    order = np.argsort(time, kind="stable")
    difficulty = np.repeat(segments.difficulty, counts)[order]
    verdict = _draw_verdicts(total, scenario.rejects, rng)
    uniform = 1.0 - rng.random(total)
    # A hash that misses the target is up to four times too high.
    uniform = np.where(verdict == ShareOutcome.ABOVE_TARGET, 1.0 + 3.0 * uniform, uniform)
    share_diff = difficulty / uniform
    return Arrivals(
        time=time[order],
        machine=np.repeat(segments.machine, counts)[order],
        share_diff=share_diff,
        verdict=verdict,
        proof=_draw_proofs(share_diff, rng),
    )


def _draw_verdicts(total: int, rejects: float, rng: np.random.Generator) -> NDArray[np.int64]:
    verdict = np.zeros(total, dtype=np.int64)
    refused = np.flatnonzero(rng.random(total) < rejects)
    kinds = np.array(list(REJECT_REASONS), dtype=np.int64)
    verdict[refused] = rng.choice(
        kinds, size=len(refused), p=_REJECT_WEIGHTS / _REJECT_WEIGHTS.sum()
    )
    return verdict


def _draw_proofs(share_diff: NDArray[np.float64], rng: np.random.Generator) -> str:
    total = len(share_diff)
    nonces = rng.integers(0, 256, size=(total, 12), dtype=np.uint8)
    version = rng.integers(0, 2**32, size=(total, 1), dtype=np.uint32) & np.uint32(_VERSION_MASK)
    return (
        np.hstack([forge_hashes(share_diff, rng), nonces, version.astype(">u4").view(np.uint8)])
        .tobytes()
        .hex()
    )


def swing_at(seconds_of_day: float, diurnal: float) -> float:
    """The factor on all hashrates at a time of the day (UTC): highest at 03:00, lowest at 15:00."""
    return 1.0 + diurnal * float(np.cos(2 * np.pi * (seconds_of_day - 3 * 3600) / 86_400))
