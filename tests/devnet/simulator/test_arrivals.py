"""Shares arrive and score as hashing would have it."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from devnet.bitcoin.difficulty import difficulty_from_target
from devnet.simulator.arrivals import PROOF_DIGITS, Arrivals, ShareOutcome, draw_arrivals, swing_at
from devnet.simulator.lifecycle import Segments
from devnet.simulator.proof import forge_hashes
from devnet.simulator.scenario import Scenario
from tbg_core.difficulty import HASHES_PER_DIFFICULTY

# The Kolmogorov-Smirnov statistic times sqrt(n) exceeds this once in ten thousand draws.
KS_LIMIT = 2.23


def ks_statistic(sample: NDArray[np.float64]) -> float:
    """Of values that should be uniform in [0, 1], times sqrt(n)."""
    ordered = np.sort(sample)
    n = len(ordered)
    above = np.arange(1, n + 1) / n - ordered
    below = ordered - np.arange(n) / n
    return float(max(above.max(), below.max()) * np.sqrt(n))


def draw(
    hashrate: list[float], difficulty: list[float], seconds: float, rejects: float = 0.0
) -> Arrivals:
    machines = len(hashrate)
    return draw_arrivals(
        Segments(
            machine=np.arange(machines),
            begin=np.zeros(machines),
            end=np.full(machines, seconds),
            difficulty=np.array(difficulty),
        ),
        np.array(hashrate),
        1.0,
        Scenario(miners=machines, start=0, span=seconds, rejects=rejects),
        np.random.default_rng(42),
    )


def test_gaps_between_the_shares_of_a_machine_are_exponential() -> None:
    rate = 0.3
    shares = draw([rate * 512 * HASHES_PER_DIFFICULTY, 1e12], [512.0, 700.0], 100_000.0)
    times = shares.time[shares.machine == 0]
    gaps = np.diff(times)
    assert len(gaps) == pytest.approx(rate * 100_000, abs=4 * np.sqrt(rate * 100_000))
    assert ks_statistic(1 - np.exp(-rate * gaps)) < KS_LIMIT
    # One gap says nothing about the next.
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / np.sqrt(len(gaps))


def test_shares_are_spread_evenly_over_a_segment() -> None:
    shares = draw([1e14], [777.0], 36_000.0)
    assert ks_statistic(shares.time / 36_000.0) < KS_LIMIT


def test_the_number_of_shares_follows_from_hashrate_and_difficulty() -> None:
    hashrate, difficulty = [5e11, 1e12, 1e14, 2e14], [100.0, 1000.0, 5e4, 2e5]
    shares = draw(hashrate, difficulty, 36_000.0)
    counts = np.bincount(shares.machine, minlength=4)
    for machine in range(4):
        expected = 36_000 * hashrate[machine] / (difficulty[machine] * 2**32)
        assert counts[machine] == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_a_share_exceeds_x_with_the_probability_difficulty_over_x() -> None:
    shares = draw([1e14], [777.0], 36_000.0)
    assert len(shares.share_diff) > 900_000
    assert shares.share_diff.min() >= 777.0
    assert ks_statistic(777.0 / shares.share_diff) < KS_LIMIT
    for factor in (2, 10, 100, 1000):
        better = (shares.share_diff > 777.0 * factor).mean()
        deviation = np.sqrt((1 / factor) * (1 - 1 / factor) / len(shares.share_diff))
        assert better == pytest.approx(1 / factor, abs=4 * deviation)


def test_shares_of_all_machines_come_in_the_order_of_time() -> None:
    shares = draw([1e12] * 50, [500.0] * 50, 600.0)
    assert all(a <= b for a, b in pairwise(shares.time.tolist()))
    assert set(shares.machine.tolist()) == set(range(50))


def test_a_hash_read_as_a_number_has_the_share_difficulty() -> None:
    shares = draw([1e12, 1e6, 2e14], [500.0, 0.001, 3e9], 60_000.0)
    assert len(shares.share_diff) > 10_000
    for place, share_diff in enumerate(shares.share_diff.tolist()):
        digits = shares.proof[place * PROOF_DIGITS :][:64]
        assert difficulty_from_target(int(digits, 16)) == pytest.approx(share_diff, rel=1e-15)


@pytest.mark.parametrize("exponent", range(-8, 50, 2))
def test_hashes_can_be_forged_for_every_magnitude_of_difficulty(exponent: int) -> None:
    wanted = np.array([1.0, 1.5, 9.99]) * 10.0**exponent
    for share_diff, row in zip(
        wanted.tolist(), forge_hashes(wanted, np.random.default_rng(1)), strict=True
    ):
        found = difficulty_from_target(int(row.tobytes().hex(), 16))
        assert found == pytest.approx(share_diff, rel=1e-15)


def test_hashes_never_repeat() -> None:
    shares = draw([1e14], [500.0], 3600.0)
    hashes = {shares.proof[at : at + 64] for at in range(0, len(shares.proof), PROOF_DIGITS)}
    assert len(hashes) == len(shares.time)


def test_the_asked_fraction_is_rejected_and_only_those_above_target_miss_it() -> None:
    shares = draw([1e14], [500.0], 3600.0, rejects=0.1)
    total = len(shares.verdict)
    rejected = (shares.verdict != ShareOutcome.ACCEPTED).mean()
    assert rejected == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / total))
    missed = shares.share_diff < 500.0
    assert np.array_equal(missed, shares.verdict == ShareOutcome.ABOVE_TARGET)
    assert set(shares.verdict.tolist()) == {int(verdict) for verdict in ShareOutcome}


def test_hashrates_swing_over_the_day_and_average_out() -> None:
    hours = [swing_at(hour * 3600.0, 0.15) for hour in range(24)]
    assert max(hours) == hours[3] == pytest.approx(1.15)
    assert min(hours) == hours[15] == pytest.approx(0.85)
    assert sum(hours) / 24 == pytest.approx(1.0)
