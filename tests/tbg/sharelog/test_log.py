"""The number of a share follows from its log and line, wherever the log lies."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg.sharelog import line as line_module
from tbg.sharelog import log as log_module
from tbg.sharelog.line import MAX_LINE
from tbg.sharelog.log import Log
from tbg.sharelog.summary import Summary
from tests.tbg.sharelog.logs import line, lines

NOON = 1_763_769_600
SHARES = list(lines("log", NOON - 90, 180, 60))  # across a full hour: half of them before it

Number = tuple[str, int]


def read(path: Path, summary: Summary | None = None) -> list[Number]:
    log = Log(path, summary or Summary())
    try:
        return [(one.instance, one.seq) for one in log.shares(final=True)]
    finally:
        log.close()


def test_every_hour_of_a_log_is_numbered_from_one_without_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "x.sharelog"
    path.write_bytes(b"".join(SHARES))
    numbers = read(path)
    hours = {instance for instance, _ in numbers}
    assert sorted(hour.rpartition("/")[2] for hour in hours) == ["2025-11-21T23", "2025-11-22T00"]
    for hour in hours:
        assert [seq for one, seq in numbers if one == hour] == list(range(1, 31))


def test_a_log_keeps_its_numbers_when_it_is_renamed_packed_or_grows(tmp_path: Path) -> None:
    path = tmp_path / "x.sharelog"
    path.write_bytes(b"".join(SHARES[:40]))
    before = read(path)
    path.write_bytes(b"".join(SHARES))
    renamed = path.rename(tmp_path / "x.sharelog.1")
    packed = tmp_path / "x.sharelog.2.gz"
    packed.write_bytes(gzip.compress(b"\r\n".join(one.rstrip() for one in SHARES)))
    assert read(renamed)[:40] == before
    assert read(packed) == read(renamed)


def test_lines_that_are_no_shares_take_no_number(tmp_path: Path) -> None:
    clean, dirty = tmp_path / "a", tmp_path / "b"
    clean.write_bytes(b"".join(SHARES))
    rubbish = [b"\n", b"\x00" * 700 + b"\n", b"{}\n", b"x" * (MAX_LINE * 9) + b"\n", b'{"a":\n']
    mixed = [part for share in SHARES for part in (*rubbish, share)]
    dirty.write_bytes(b"".join(mixed))
    summary = Summary()
    assert read(dirty, summary) == read(clean)
    assert summary.lines == len(mixed)
    assert summary.skipped == {
        "empty": 60,
        "not_json": 120,
        "no_result": 60,
        "too_long": 60,
    }


def test_a_last_line_that_was_cut_short_counts_as_that_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"".join(SHARES[:9]) + SHARES[9][:-30])
    summary = Summary()
    before = read(path, summary)
    assert len(before) == 9
    assert summary.skipped == {"cut_short": 1}
    path.write_bytes(b"".join(SHARES[:11])[:-1])  # whole, but for the end of the last line
    assert read(path)[:9] == before
    assert len(read(path)) == 11


def test_two_logs_have_no_instance_in_common(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"".join(SHARES[:30]))
    other.write_bytes(b"".join(SHARES[30:]))
    assert not {name for name, _ in read(one)} & {name for name, _ in read(other)}


def test_a_damaged_archive_gives_what_can_be_read_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.sharelog.gz"
    whole = gzip.compress(b"".join(lines("big", NOON, 60, 5000)))
    path.write_bytes(whole[: len(whole) // 2])
    summary = Summary()
    assert 100 < len(read(path, summary)) < 5000
    assert list(summary.unreadable) == [str(path)]


def test_a_log_that_grows_is_read_on_whole_line_by_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    summary = Summary()
    log = Log(path, summary)
    numbers: list[Number] = []
    whole = b"".join(SHARES)
    chance = random.Random("pieces")
    at = 0
    with path.open("ab", buffering=0) as writer:
        while at < len(whole):
            piece = whole[at : at + chance.randrange(1, 2000)]
            at += len(piece)
            writer.write(piece)
            assert not log.is_cut()
            numbers += [(one.instance, one.seq) for one in log.shares(final=False)]
    log.close()
    assert numbers == read(path)
    assert not summary.skipped


@pytest.mark.parametrize("grows_past", [False, True])
def test_a_log_that_was_written_over_is_noticed(tmp_path: Path, grows_past: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"".join(SHARES[:20]))
    log = Log(path, Summary())
    assert len(list(log.shares(final=False))) == 20
    path.write_bytes(b"".join(SHARES[20 : 60 if grows_past else 30]))
    assert log.is_cut()
    log.close()


PARTS = [*SHARES[:6], b"\n", b"{}\n", b"{", b"\xff\x00\n", b"y" * 900, b"z" * 2000 + b"\n"]


@given(st.lists(st.integers(0, len(PARTS) - 1), max_size=30), st.integers(20, 3000))
def test_how_a_log_is_cut_into_reads_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, picks: list[int], size: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "x"
    content = b"".join(PARTS[pick] for pick in picks)
    path.write_bytes(content)

    def outcome() -> tuple[list[Number], dict[str, Any]]:
        summary = Summary()
        return read(path, summary), summary.document()

    with pytest.MonkeyPatch.context() as patch:
        for module in (log_module, line_module):
            patch.setattr(module, "MAX_LINE", 800)
        expected = outcome()
        patch.setattr(log_module, "CHUNK", size)
        assert outcome() == expected
    numbers, document = expected
    assert document["lines"] == len(numbers) + document["skipped"]
    assert document["lines"] == content.count(b"\n") + (
        not content.endswith(b"\n") and content != b""
    )


def test_unknown_fields_are_counted_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    chance = random.Random("fields")
    many = [line(NOON + n, chance, version="1", **{f"field{n}": 1}) for n in range(200)]
    path.write_text("".join(json.dumps(one) + "\n" for one in many))
    summary = Summary()
    assert len(read(path, summary)) == 200
    assert summary.unknown_fields.total() == 400
    assert summary.unknown_fields["version"] > 0
    assert len(summary.unknown_fields) <= 51
