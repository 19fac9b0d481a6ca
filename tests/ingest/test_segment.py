"""Damage in a spool costs the record that it is in, and is counted in events."""

import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.receiver import segment, spool
from ingest.receiver.segment import HEAD_BYTES
from ingest.receiver.spool import Loss, Spool
from tbg_core.decode import decode
from tbg_core.entry import Batch, event_values
from tbg_core.names import stream_of
from tests.ingest.harness import packed

RECORDS = 9
EACH = 5  # events in a record


def batch(number: int) -> Batch:
    """Five shares of e/1, numbered on from the batch before it."""
    values: list[bytes] = []
    for seq in range(number * EACH + 1, (number + 1) * EACH + 1):
        values += event_values(decode(packed("share_submitted", instance="e/1", seq=seq)))
    return Batch("mark", str(number), {stream_of("share_submitted"): values}, EACH)


def numbers(record: int, records: int = 1) -> dict[str, Any]:
    return {"e/1": [(record * EACH + 1, (record + records) * EACH + 1)]}


def filled(folder: Path) -> tuple[Path, list[int]]:
    """A spool of one file; where each record begins, and where the last one ends."""
    made = Spool(folder, 2**30)
    ends = [0]
    for number in range(RECORDS):
        made.append(batch(number))
        ends.append(made.bytes)
    made.close()
    return next(folder.glob("*.spool")), ends


def read_back(folder: Path) -> tuple[list[int], list[Loss]]:
    """The batches that come back, each as it was, and what is said to be lost."""
    made = Spool(folder, 2**30)
    names = []
    while (found := made.peek()) is not None:
        # Their times are of when they were made.
        assert found.events == EACH
        assert [int(seq) for _, _, seq, _ in found.numbers()] == [
            seq for first, end in numbers(int(found.name))["e/1"] for seq in range(first, end)
        ]
        names.append(int(found.name))
        made.pop()
    losses = made.take_losses()
    made.close()
    assert not list(folder.glob("*.spool"))
    return names, losses


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("record", [0, 4, RECORDS - 1])
def test_a_flipped_byte_in_a_batch_costs_its_record_and_names_the_numbers(
    tmp_path: Path, record: int
) -> None:
    path, ends = filled(tmp_path)
    flip(path, ends[record + 1] - 20)
    names, losses = read_back(tmp_path)
    assert names == [number for number in range(RECORDS) if number != record]
    assert losses == [Loss("damaged", EACH, numbers(record))]
    kept = list((tmp_path / "damaged").iterdir())
    assert [path.stat().st_size for path in kept] == [ends[record + 1] - ends[record]]


@pytest.mark.parametrize("at", range(2 * HEAD_BYTES + 1))
def test_a_flipped_byte_in_a_head_or_in_the_numbers_costs_nothing(tmp_path: Path, at: int) -> None:
    path, ends = filled(tmp_path)
    flip(path, ends[3] + at)
    assert read_back(tmp_path) == (list(range(RECORDS)), [])


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 4), (0, 7), (7, 8), (8, 8), (0, 8)])
def test_records_that_are_overwritten_with_zeros_are_counted_as_far_as_it_is_known(
    tmp_path: Path, first: int, last: int
) -> None:
    path, ends = filled(tmp_path)
    with path.open("r+b") as file:
        file.seek(ends[first])
        file.write(bytes(ends[last + 1] - ends[first]))
    names, losses = read_back(tmp_path)
    assert names == [number for number in range(RECORDS) if not first <= number <= last]
    lost = sum(loss.events for loss in losses)
    # Nothing after them says how many there were: one at least.
    known = last < RECORDS - 1 and first > 0
    assert lost == ((last - first + 1) * EACH if known else 1)


def test_what_the_end_of_a_file_lost_the_next_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 3 * len(segment.record(batch(0), 0)))
    filled(tmp_path)
    first = min(tmp_path.glob("*.spool"))
    size = first.stat().st_size
    with first.open("r+b") as file:
        file.truncate(len(segment.record(batch(0), 0)))
        file.truncate(size)  # as a crash of the machine leaves it: zeros at the end
    names, losses = read_back(tmp_path)
    assert names[0] == 0
    assert sum(loss.events for loss in losses) == (RECORDS - len(names)) * EACH


@pytest.mark.parametrize("left", [1, HEAD_BYTES - 1, 2 * HEAD_BYTES, 2 * HEAD_BYTES + 40])
def test_a_record_that_is_cut_short_is_counted(tmp_path: Path, left: int) -> None:
    path, ends = filled(tmp_path)
    os.truncate(path, ends[-2] + left)
    names, losses = read_back(tmp_path)
    assert names == list(range(RECORDS - 1))
    events = EACH if left >= HEAD_BYTES else 1
    assert [(loss.reason, loss.events) for loss in losses] == [("damaged", events)]
    if left == 2 * HEAD_BYTES + 40:
        assert losses[0].numbers == numbers(RECORDS - 1)


def test_whatever_is_flipped_no_other_record_is_lost_and_none_is_changed(tmp_path: Path) -> None:
    draw = random.Random(1)
    for example in range(150):
        folder = tmp_path / str(example)
        path, ends = filled(folder)
        record = draw.randrange(RECORDS)
        for _ in range(draw.randrange(1, 20)):
            flip(path, draw.randrange(ends[record], ends[record + 1]))
        names, losses = read_back(folder)
        assert [number for number in range(RECORDS) if number not in names] in ([], [record])
        assert len(losses) <= 1


def test_a_disk_that_does_not_give_a_block_back_costs_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ends = filled(tmp_path)
    at = ends[4] + 8 * HEAD_BYTES
    real = os.pread

    def pread(file: int, count: int, offset: int) -> bytes:
        if offset <= at < offset + count:
            raise OSError(5, "Input/output error")
        return real(file, count, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(segment, "_BLOCK", 64)
    names, losses = read_back(tmp_path)
    assert names == [0, 1, 2, 3, 5, 6, 7, 8]
    assert losses == [Loss("damaged", EACH, numbers(4))]
    assert path


def test_a_record_of_another_version_is_set_aside_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Spool(tmp_path, 2**30)
    made.append(batch(0))
    with monkeypatch.context() as patch:
        patch.setattr(segment, "VERSION", segment.VERSION + 1)
        made.append(batch(1))
    made.append(batch(2))
    made.close()
    names, losses = read_back(tmp_path)
    assert names == [0, 2]
    assert losses == [Loss("other_version", EACH, numbers(1))]


def old_record(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def test_a_spool_of_the_version_before_is_read(tmp_path: Path) -> None:
    unknown = msgspec.msgpack.encode({"mark": "m", "name": "1", "values": {}, "count": 1})
    records = [old_record(msgspec.msgpack.encode(batch(number))) for number in range(4)]
    broken = bytearray(records[1])
    broken[broken.index(b"difficulty")] ^= 1
    (tmp_path / "0000000004.spool").write_bytes(
        records[0] + bytes(broken) + records[2] + old_record(unknown) + records[3] + b"\x05\x00"
    )
    (tmp_path / "cursor").write_bytes(struct.pack("<QQ", 4, len(records[0])))
    names, losses = read_back(tmp_path)
    assert names == [2, 3]
    assert [(loss.reason, loss.events) for loss in losses] == [
        ("damaged", EACH),
        ("other_version", 1),
        ("damaged", 1),
    ]


def test_what_is_set_aside_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, ends = filled(tmp_path)
    monkeypatch.setattr(spool, "DAMAGED_BYTES", ends[2])
    for record in range(5):
        flip(path, ends[record + 1] - 20)
    names, losses = read_back(tmp_path)
    assert names == [5, 6, 7, 8]
    assert sum(loss.events for loss in losses) == 5 * EACH
    kept = sum(one.stat().st_size for one in (tmp_path / "damaged").iterdir())
    assert 0 < kept <= ends[2]
