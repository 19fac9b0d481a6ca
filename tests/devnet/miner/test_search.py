"""The search finds what plain hashing finds, and no two processes search the same header."""

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.bitcoin.hashing import hash_to_int, sha256d
from devnet.miner.cli import throwaway_user
from devnet.miner.job import Assignment, Job, JobError, ranges, spread
from devnet.miner.process import Searches
from devnet.miner.search import search
from devnet.miner.stratum import pool_address

PARAMS: list[Any] = [
    "1f",
    "00" * 31 + "07",
    "01" * 42,
    "02" * 50,
    ["03" * 32],
    "20000000",
    "207fffff",
    "6b029c6d",
    True,
]
GENESIS = (
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac7"
    "2c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d"
)


def test_it_finds_the_nonce_of_bitcoins_first_block() -> None:
    nonce = 2_083_236_893
    found = list(search(bytes.fromhex(GENESIS), nonce - 500, nonce + 500, 0xFFFF << 208))
    assert [item[0] for item in found] == [nonce]
    assert found[0][1][::-1].hex().startswith("000000000019d668")


@settings(max_examples=30)
@given(
    header=st.binary(min_size=76, max_size=76),
    start=st.integers(0, 2**32 - 300),
    bits=st.integers(246, 256),
)
def test_it_finds_exactly_the_hashes_that_meet_the_target(
    header: bytes, start: int, bits: int
) -> None:
    target = (1 << bits) - 1
    expected = []
    for nonce in range(start, start + 300):
        digest = sha256d(header + nonce.to_bytes(4, "little"))
        if hash_to_int(digest) <= target:
            expected.append((nonce, digest))
    assert list(search(header, start, start + 300, target)) == expected


@given(st.integers(0, 2**13), st.integers(1, 2**32 - 1))
def test_version_bits_stay_within_the_mask_and_differ(count: int, mask: int) -> None:
    assert spread(count, mask) & ~mask == 0
    if count + 1 < 1 << mask.bit_count():
        assert spread(count, mask) != spread(count + 1, mask)


@pytest.mark.parametrize("mask", [0, 0x6000, 0x1FFFE000])
def test_processes_share_the_work_without_doing_any_twice(mask: int) -> None:
    job = Job.parse(PARAMS)
    headers: list[bytes] = []
    for share in range(3):
        assignment = Assignment(job, b"\x01\x02\x03\x04", 8, 1, mask, share, 3)
        headers += [part.header for part in islice(ranges(assignment), 40)]
    assert len(set(headers)) == len(headers) == 120


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["6b029c6d", "6b029c6e"]),  # the time of the job
            st.sampled_from(["1f", "20"]),  # its id
            st.booleans(),
            st.integers(1, 2**224),
            st.lists(st.integers(1, 1 << 25), max_size=3),
        )
    ),
    st.sampled_from([0, 0x6000]),
)
def test_no_nonce_is_searched_twice_however_often_the_pool_speaks(
    assignments: list[tuple[str, str, bool, int, list[int]]], mask: int
) -> None:
    """It may change the difficulty, name the same work otherwise, or come back to earlier work."""
    searches = Searches()
    searched: dict[bytes, int] = {}
    for ntime, job_id, clean, target, steps in assignments:
        job = Job.parse([job_id, *PARAMS[1:7], ntime, clean])
        place = searches.of(Assignment(job, b"\x01\x02\x03\x04", 8, target, mask, 0, 1))
        for step in steps:
            taken = place.take(step)
            assert taken is not None
            part, start, end = taken
            assert start == searched.get(part.header, 0)
            assert start < end <= min(start + step, part.nonces)
            searched[part.header] = end


def test_work_that_was_searched_to_its_end_is_not_begun_again() -> None:
    searches = Searches()
    assignment = Assignment(Job.parse(PARAMS), b"", 1, 1, 0, 255, 256)
    assert searches.of(assignment).take(1 << 32) is not None
    assert searches.of(replace(assignment, target=2)).take(1) is None


def test_a_small_extranonce_comes_to_an_end() -> None:
    assignment = Assignment(Job.parse(PARAMS), b"", 1, 1, 0, 1, 2)
    assert [part.nonce2[0] for part in ranges(assignment)] == list(range(1, 256, 2))


@pytest.mark.parametrize(
    "params",
    [
        [],
        PARAMS[:8],
        [*PARAMS[:1], "zz", *PARAMS[2:]],
        [*PARAMS[:1], "00", *PARAMS[2:]],
        [*PARAMS[:4], ["00"], *PARAMS[5:]],
        [*PARAMS[:4], None, *PARAMS[5:]],
        [*PARAMS[:5], 7, *PARAMS[6:]],
        [*PARAMS[:5], "1" + "0" * 8, *PARAMS[6:]],
        [*PARAMS[:6], "-1", *PARAMS[7:]],
        [*PARAMS[:7], "f" * 9, *PARAMS[8:]],
    ],
)
def test_a_job_that_is_none_is_refused(params: list[Any]) -> None:
    with pytest.raises(JobError):
        Job.parse(params)


def test_pool_addresses() -> None:
    assert pool_address("stratum+tcp://localhost:3333") == ("localhost", 3333)
    assert pool_address("10.0.0.2:4444") == ("10.0.0.2", 4444)
    for wrong in ("http://x:1", "localhost", "x:0", "stratum+ssl://x:1", "x:99999"):
        with pytest.raises(ValueError, match=r"stratum|[Pp]ort"):
            pool_address(wrong)


def test_the_default_user_is_always_the_same_and_nobodys() -> None:
    assert throwaway_user() == "bcrt1q3xlktw6a9u0achzmmeuxr3zefdjelru8lmwhfy.cpu"
