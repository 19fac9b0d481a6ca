"""Vardiff brings every miner to about one share in 3.33 seconds, in simulated time."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.pool.vardiff import (
    HIGH_RATE,
    LOW_RATE,
    MIN_SECONDS,
    MIN_SHARES,
    Bounds,
    Vardiff,
    decayed,
)

FREE = Bounds(minimum=1e-9)


def mine(
    vardiff: Vardiff, hashrate: float, seconds: float, rng: random.Random, bounds: Bounds = FREE
) -> list[float]:
    """A miner with Poisson arrivals; returns the times of its shares."""
    now = vardiff.started
    end = now + seconds
    shares: list[float] = []
    while True:
        now += rng.expovariate(hashrate / 2**32 / vardiff.difficulty)
        if now > end:
            return shares
        shares.append(now)
        new = vardiff.accepted(now, vardiff.difficulty, bounds)
        if new is not None:
            vardiff.change(now, new)


@pytest.mark.parametrize("hashrate", [3e5, 1.2e12, 2.34e14])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 8.0])
@pytest.mark.parametrize("seed", range(5))
def test_any_miner_ends_up_within_the_band(hashrate: float, factor: float, seed: int) -> None:
    ideal = hashrate / 2**32 * 3.33
    vardiff = Vardiff(ideal * factor, started=0.0)
    shares = mine(vardiff, hashrate, 2 * 3600, random.Random(seed))
    assert LOW_RATE * 0.7 < hashrate / 2**32 / vardiff.difficulty < HIGH_RATE * 1.4
    late = [at for at in shares if at > 3600]
    assert 0.15 < len(late) / 3600 < 0.45


def test_a_miner_on_target_is_left_alone() -> None:
    vardiff = Vardiff(1.0, started=0.0)
    for number in range(2_000):
        assert vardiff.accepted(number * 3.33, 1.0, FREE) is None


def test_nothing_changes_before_72_shares_or_240_seconds() -> None:
    fast = Vardiff(1.0, started=0.0)
    changes = [fast.accepted(0.1 * number, 1.0, FREE) for number in range(MIN_SHARES + 1)]
    assert changes[:-1] == [None] * MIN_SHARES
    assert changes[-1] == pytest.approx(10 * 3.33, rel=0.05)
    slow = Vardiff(0.5, started=0.0)
    times = [0.0, 60.0, 120.0, 180.0, 239.0, MIN_SECONDS]
    found = [slow.accepted(at, 0.5, FREE) for at in times]
    assert found[:-1] == [None] * 5
    assert found[-1] is not None
    assert found[-1] < 0.1


def test_a_burst_in_one_instant_divides_by_nothing() -> None:
    vardiff = Vardiff(1.0, started=5.0)
    assert [vardiff.accepted(5.0, 1.0, FREE) for _ in range(200)] == [None] * 200
    assert vardiff.accepted(5.001, 1.0, FREE) is not None


def test_a_silent_miner_is_lowered_until_it_can_answer() -> None:
    vardiff = Vardiff(10_000.0, started=0.0)
    assert vardiff.quiet(239.0, FREE) is None
    first = vardiff.quiet(240.0, FREE)
    assert first is not None
    assert first == 138.0  # 10,000 * 3.33 / 240, rounded down
    vardiff.change(240.0, first)
    assert vardiff.quiet(479.0, FREE) is None
    again = vardiff.quiet(480.0, FREE)
    assert again is not None
    assert again < first


def silent(vardiff: Vardiff, seconds: float) -> float:
    """The difficulty of a miner that is silent for so long."""
    for now in range(0, int(seconds), 10):
        lower = vardiff.quiet(float(now), FREE)
        if lower is not None:
            vardiff.change(float(now), lower)
    return vardiff.difficulty


def test_a_rental_whose_order_pauses_keeps_the_minimum_that_it_asked_for() -> None:
    assert silent(Vardiff(500_000.0, started=0.0, floor=500_000.0), 36_000) == 500_000.0
    # Vardiff had raised it: back to its wish, and no lower.
    assert silent(Vardiff(900_000.0, started=0.0, floor=500_000.0), 36_000) == 500_000.0


def test_a_miner_that_has_worked_at_1_or_more_never_comes_below_1() -> None:
    vardiff = Vardiff(2.0, started=0.0)
    vardiff.accepted(0.0, 2.0, FREE)
    assert silent(vardiff, 36_000) == 1.0
    # Shares that come very slowly do not take it there, either.
    assert vardiff.accepted(40_000.0, 1.0, FREE) is None


def test_a_miner_that_never_had_a_share_accepted_may_be_too_small_for_1() -> None:
    assert silent(Vardiff(1000.0, started=0.0), 36_000) < 1e-3


def test_a_share_keeps_a_miner_from_being_called_silent() -> None:
    vardiff = Vardiff(1.0, started=0.0)
    vardiff.accepted(200.0, 1.0, FREE)
    assert vardiff.quiet(439.0, FREE) is None


def test_what_a_miner_asked_for_is_a_minimum_for_vardiff() -> None:
    vardiff = Vardiff(100.0, started=0.0, floor=100.0)
    found = [vardiff.accepted(at, 100.0, FREE) for at in (0.0, 100.0, 200.0, 300.0)]
    assert found == [None] * 4


@pytest.mark.parametrize(
    ("wanted", "assigned"),
    [(533.7, 533.0), (1.999, 1.0), (1.0, 1.0), (0.999, 0.999), (0.0001, 0.0001), (2e12, 1e9)],
)
def test_from_1_up_difficulties_are_whole_numbers_rounded_down(
    wanted: float, assigned: float
) -> None:
    assert Bounds(1e-6, 1e9 + 0.5).clamp(wanted) == assigned


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(1e-9, 1e12)), max_size=120),
    st.floats(1e-9, 1e12),
)
def test_difficulties_stay_finite_and_within_bounds(
    shares: list[tuple[float, float]], start: float
) -> None:
    bounds = Bounds(1e-6, 1e9)
    vardiff = Vardiff(bounds.clamp(start), started=0.0)
    now = 0.0
    for gap, worth in shares:
        now += gap
        for new in (vardiff.accepted(now, worth, bounds), vardiff.quiet(now, bounds)):
            if new is not None:
                assert 1e-6 <= new <= 1e9
                assert new < 1 or new.is_integer()
                vardiff.change(now, new)


@given(st.floats(1, 1e6), st.floats(0.01, 10))
def test_a_constant_rate_becomes_its_own_average(rate: float, gap: float) -> None:
    average = 0.0
    for _ in range(round(3000 / gap) if gap > 1 else 3000):
        average = decayed(average, rate * gap, gap, 300.0)
    reached = 1 - math.exp(-gap * (round(3000 / gap) if gap > 1 else 3000) / 300)
    assert average == pytest.approx(rate * reached, rel=0.03)
