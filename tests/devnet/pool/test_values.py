"""What firmware writes in many ways is read as what it means, and nothing else is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.pool.values import difficulty, hex_digits, mask_bits


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        ("00001ec4", "00001ec4"),
        ("1ec4", "00001ec4"),
        ("1EC4", "00001ec4"),
        ("0x1ec4", "00001ec4"),
        ("0", "00000000"),
        (" 1ec4\n", "00001ec4"),
        ("1ec4\0", "00001ec4"),
        ("ffffffff", "ffffffff"),
        ("", None),
        ("0x", None),
        ("123456789", None),
        ("1ec4g", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        ("1 0", None),
        ("٣", None),
        (7876, None),
        (None, None),
    ],
)
def test_hex_is_padded_with_the_zeros_that_firmware_leaves_out(
    value: Any, digits: str | None
) -> None:
    assert hex_digits(value, 8) == digits


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_every_number_without_leading_zeros_reads_back(number: int, prefixed: bool) -> None:
    text = f"{number:#x}" if prefixed else f"{number:x}"
    assert hex_digits(text, 16) == f"{number:016x}"


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        ("1fffe000", 0x1FFFE000),
        ("0x1fffe000", 0x1FFFE000),
        ("0X1FFFE000", 0x1FFFE000),
        (" 1fffe000\0", 0x1FFFE000),
        ("e000", 0xE000),
        (0x1FFFE000, 0x1FFFE000),
        (float(0x1FFFE000), 0x1FFFE000),
        ("1fffe000zz", 0),
        ("1fffe0000", 0),
        ("", 0),
        (2**32, 0),
        (-1, 0),
        (0.5, 0),
        (float("inf"), 0),
        (float("nan"), 0),
        (True, 0),
        ([], 0),
    ],
)
def test_a_version_mask_is_read_whole(value: Any, bits: int) -> None:
    assert mask_bits(value) == bits


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (2048, 2048.0),
        (2048.5, 2048.5),
        ("2048", 2048.0),
        ("2048.5", 2048.5),
        ("+.5", 0.5),
        ("1e-3", 0.001),
        (" 2048\r\n", 2048.0),
        ("2048\0", 2048.0),
        ("0x800", 2048.0),
        ("", None),
        ("many", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("2_048", None),
        ("2,048", None),
        ("٢", None),
        ("9" * 5000, None),
        ("0", None),
        (0, None),
        (-1, None),
        ("-1", None),
        (True, None),
        (10**400, None),
        (float("nan"), None),
        (None, None),
        ([2048], None),
    ],
)
def test_a_difficulty_is_a_number_however_it_is_written(value: Any, read: float | None) -> None:
    assert difficulty(value) == read
