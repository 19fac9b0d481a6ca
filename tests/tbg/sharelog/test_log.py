"""The number of a share follows from its log and line, wherever the log lies."""

import bz2
import errno
import gzip
import json
import lzma
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg.sharelog import line as line_module
from tbg.sharelog import log as log_module
from tbg.sharelog.folder import Folder
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


# --- Torn lines ------------------------------------------------------------------------

SHARE, OTHER = SHARES[3].rstrip(), SHARES[4].rstrip()


@pytest.mark.parametrize(
    ("raw", "shares"),
    [
        (SHARE[:200] + OTHER, 1),  # a share that was torn, and the next behind it
        (SHARE[:-1] + OTHER, 1),
        (SHARE[:1] + OTHER, 1),
        (SHARE + OTHER, 2),  # two, glued
        (SHARE + b" " + OTHER + b"\r", 2),
        (SHARE + OTHER[:100], 1),  # and the second torn
        (SHARE[100:] + OTHER + SHARE[:50], 1),
        (b"\x00" * 700 + SHARE, 1),  # zeros of a file system that lost its power
        (SHARE + b"\x00" * 700, 1),
        (b"\x00" * 2 * MAX_LINE + SHARE, 1),
        (b"x" * 5 * MAX_LINE + SHARE, 1),
        (b"\xff\xfe\xfd" + SHARE, 1),
        (b'{"a": {"b": ' * 300 + SHARE, 0),  # at most so many beginnings are tried
        (SHARE[:-1] + b', "x": ' + OTHER + b"}", 1),  # a field of a share is no second share
        (SHARE[:-1], 0),
        (b"[" + SHARE[:300] + b"]", 0),
        (b"".join(one.rstrip() for one in SHARES[3:53]), 50),  # no ends of lines at all
    ],
)
def test_whole_shares_on_a_torn_line_are_not_lost(tmp_path: Path, raw: bytes, shares: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(SHARES[0] + raw + b"\n" + SHARES[1])
    summary = Summary()
    numbers = read(path, summary)
    assert len(numbers) == 2 + shares
    assert len(set(numbers)) == 2 + shares
    assert summary.lines == 2 + max(shares, 1)
    assert summary.skipped.total() == (shares == 0)
    # The shares around it keep the numbers that they have without it.
    path.write_bytes(SHARES[0] + SHARES[1])
    assert set(read(path)) < set(numbers) or shares == 0
    # At the end of a log, too.
    path.write_bytes(SHARES[0] + raw)
    assert len(read(path)) == 1 + shares


def test_a_torn_line_has_the_same_numbers_in_every_copy_and_once_it_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x"
    path.write_bytes(SHARES[0] + SHARE[:200] + OTHER)
    before = read(path)
    path.write_bytes(SHARES[0] + SHARE[:200] + OTHER + SHARES[1][:30] + b"\n" + SHARES[2])
    assert read(path)[:2] == before


# --- Files that are something else -----------------------------------------------------

WHOLE = b"".join(SHARES)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (bz2.compress(WHOLE), "bzip2"),
        (lzma.compress(WHOLE), "xz"),
        (lzma.compress(WHOLE, lzma.FORMAT_ALONE), "LZMA"),
        (WHOLE.decode().encode("utf-16"), "UTF-16"),
        (WHOLE.decode().encode("utf-16-le"), "UTF-16"),
        (WHOLE.decode().encode("utf-16-be"), "UTF-16"),
        (WHOLE.decode().encode("utf-32"), "UTF-"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 99, "Zstandard"),
        (b"PK\x03\x04" + b"x" * 99, "zip"),
        (gzip.compress(bz2.compress(WHOLE)), "bzip2"),
        (gzip.compress(WHOLE.decode().encode("utf-16")), "UTF-16"),
    ],
)
def test_a_file_in_another_form_is_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "x.sharelog"
    path.write_bytes(content)
    log = Log(path, Summary())
    with pytest.raises(OSError, match=name):
        list(log.shares(final=True))
    assert list(log.shares(final=True)) == []
    log.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_is_no_part_of_the_first_share(tmp_path: Path, pack: Any) -> None:
    path, marked = tmp_path / "x", tmp_path / "y"
    path.write_bytes(WHOLE)
    marked.write_bytes(pack(b"\xef\xbb\xbf" + WHOLE))
    assert read(marked) == read(path)


PACKED = gzip.compress(b"".join(lines("big", NOON, 60, 5000)), mtime=0)  # one id for each test


@pytest.mark.parametrize(
    ("content", "shares", "why"),
    [
        (PACKED + gzip.compress(WHOLE, mtime=0), 5060, None),  # two members: zcat reads both
        (PACKED + bytes(5000), 5000, None),  # a tape's padding
        (PACKED + bytes(5000) + gzip.compress(WHOLE, mtime=0), 5060, None),
        (PACKED + b"garbage", 5000, "what follows the gzip"),
        (PACKED + gzip.compress(WHOLE, mtime=0) + b"\x1f", 5060, "the gzip ends in the middle"),
        (PACKED + b"\x1f\x8b\x07xxxxxxxxxxxx", 5000, "what follows the gzip"),
        (PACKED[:-1], 5000, "the gzip ends in the middle"),
        (PACKED[:-9] + b"\x00" + PACKED[-8:], 4999, None),
        (PACKED[:-8] + bytes(8), 5000, "damaged gzip"),  # a checksum that is wrong
        (PACKED[:12], 0, "the gzip ends in the middle"),
        (PACKED[:5], 0, "the gzip ends in the middle"),
        (b"\x1f\x8b" + b"x" * 99, 0, "damaged gzip"),
    ],
)
def test_all_that_a_gzip_holds_is_read_and_what_is_wrong_with_it_is_named(
    tmp_path: Path, content: bytes, shares: int, why: str | None
) -> None:
    path = tmp_path / "x.sharelog.gz"
    path.write_bytes(content)
    summary = Summary()
    assert len(read(path, summary)) >= shares
    if why is not None:
        assert why in summary.unreadable[str(path)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n\r", b"\r\r\n"])
def test_every_end_of_a_line_is_one(tmp_path: Path, pack: Any, end: bytes) -> None:
    path, other = tmp_path / "x", tmp_path / "y"
    path.write_bytes(gzip.decompress(PACKED))
    other.write_bytes(pack(path.read_bytes().replace(b"\n", end)))
    summary = Summary()
    assert read(other, summary) == read(path)
    assert set(summary.skipped) <= {"empty"}


def test_a_line_too_long_to_be_searched_whole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.sharelog"
    path.write_bytes(gzip.decompress(PACKED).replace(b"\n", b" "))
    summary = Summary()
    assert read(path, summary)
    assert "a line is longer" in summary.unreadable[str(path)]


def test_what_is_no_file_holds_nothing_up_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.sharelog").write_bytes(WHOLE)
    os.mkfifo(tmp_path / "pipe.sharelog")
    (tmp_path / "loop.sharelog").symlink_to("loop.sharelog")
    (tmp_path / "up").symlink_to(tmp_path)
    unreadable: dict[Path, str] = {}
    folder = Folder((tmp_path, tmp_path / "gone"), unreadable.__setitem__)
    found = [path.name for path in folder.fresh()]
    assert found == ["a.sharelog", "pipe.sharelog"]
    assert [path.name for path in unreadable] == ["loop.sharelog"]
    with pytest.raises(OSError, match="a pipe or a device"):
        Log(tmp_path / "pipe.sharelog", Summary())
    assert list(folder.fresh()) == []


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(folder: str) -> Any:
        if folder.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    unreadable: dict[Path, str] = {}
    folder = Folder((tmp_path,), unreadable.__setitem__)
    assert list(folder.fresh()) == []
    assert unreadable == {tmp_path / "closed": "Permission denied"}
    monkeypatch.undo()
    (tmp_path / "closed" / "x.sharelog").touch()
    assert [path.name for path in folder.fresh()] == ["x.sharelog"]
