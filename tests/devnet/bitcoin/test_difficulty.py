"""Targets, compact targets and difficulties are one number in three notations."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.bitcoin.difficulty import (
    DIFFICULTY_1_TARGET,
    MAX_TARGET,
    difficulty_from_bits,
    difficulty_from_target,
    target_from_bits,
    target_from_difficulty,
    work_from_target,
)


@pytest.mark.parametrize(
    ("bits", "target", "difficulty"),
    [
        (0x1D00FFFF, 0xFFFF << 208, 1.0),
        (0x1B0404CB, 0x0404CB << 192, 16307.420938523983),
        (0x207FFFFF, 0x7FFFFF << 232, 4.656542373906925e-10),  # regtest
        (0x1E0377AE, 0x0377AE << 216, 0.001126515290698186),  # signet's genesis block
        (0x03123456, 0x123456, None),
        (0x02123456, 0x1234, None),
    ],
)
def test_compact_targets_have_the_target_and_difficulty_that_the_network_shows(
    bits: int, target: int, difficulty: float | None
) -> None:
    assert target_from_bits(bits) == target
    if difficulty is not None:
        assert difficulty_from_bits(bits) == pytest.approx(difficulty, rel=1e-15)


@pytest.mark.parametrize(
    "bits", [0, 0x01003456, 0x04923456, 0x1D80FFFF, 0x23000001 + 0xFF, 0xFF123456, -1, 2**32]
)
def test_zero_negative_and_oversized_compact_targets_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="nBits"):
        target_from_bits(bits)


@given(difficulty=st.floats(1e-9, 1e30))
def test_the_target_of_a_difficulty_is_the_largest_that_still_reaches_it(
    difficulty: float,
) -> None:
    target = target_from_difficulty(difficulty)

    assert difficulty_from_target(target) == pytest.approx(difficulty, rel=1e-12)
    # a hash one above it would achieve less
    assert Fraction(difficulty) * (target + 1) > DIFFICULTY_1_TARGET


def test_extreme_difficulties_are_clamped_to_possible_targets() -> None:
    assert target_from_difficulty(1) == DIFFICULTY_1_TARGET
    assert target_from_difficulty(5e-324) == MAX_TARGET
    assert target_from_difficulty(1e300) == 1
    assert difficulty_from_target(0) == math.inf


@pytest.mark.parametrize("difficulty", [0.0, -1.0, math.nan, math.inf])
def test_a_difficulty_that_is_not_finite_and_positive_is_refused(difficulty: float) -> None:
    with pytest.raises(ValueError, match="finite and above 0"):
        target_from_difficulty(difficulty)


def test_difficulty_1_is_about_two_to_the_32_hashes_of_work() -> None:
    assert work_from_target(DIFFICULTY_1_TARGET) == 0x100010001
    assert work_from_target(target_from_bits(0x207FFFFF)) == 2  # a regtest block
    with pytest.raises(ValueError, match="between 1 and"):
        work_from_target(0)
