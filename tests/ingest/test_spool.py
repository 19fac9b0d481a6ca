"""The spool: batches come back in order, whatever happens to the process."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.receiver import spool
from ingest.receiver.spool import Spool, SpoolFullError, SpoolInUseError
from tbg_core.entry import Batch

MAX = 10_000


def batch(number: int, size: int = 10, *, events: int = 1) -> Batch:
    return Batch("mark", str(number), {"mining:ledger": [b"x" * size]}, events)


def drained(kept: Spool) -> list[str]:
    """The names of all batches, in order."""
    names = []
    while (found := kept.peek()) is not None:
        names.append(found.name)
        kept.pop()
    assert kept.empty
    return names


def test_batches_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    first = Spool(tmp_path, MAX)
    for number in range(5):
        first.append(batch(number))
    assert first.peek() == batch(0)
    first.pop()
    first.close()
    second = Spool(tmp_path, MAX)
    names = []
    while (found := second.peek()) is not None:
        names.append(found.name)
        second.pop()
    assert names == ["1", "2", "3", "4"]
    assert second.empty
    assert second.bytes == 0
    assert not list(tmp_path.glob("*.spool"))


def test_a_batch_past_the_limit_is_refused_and_the_rest_stays(tmp_path: Path) -> None:
    kept = Spool(tmp_path, 600)
    kept.append(batch(1, 100))
    with pytest.raises(SpoolFullError, match="limit of 600 bytes"):
        kept.append(batch(2, 400))
    kept.append(batch(3, 10))
    assert kept.peek() == batch(1, 100)


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, error: int, *, after: int | None = None
) -> None:
    """Makes a call of the system fail; a write first takes so many bytes, if it is told to."""
    real, calls = getattr(os, name), iter([after] if after is not None else [])

    def fail(opened: int, *arguments: Any) -> Any:
        if (size := next(calls, None)) is None:
            raise OSError(error, os.strerror(error))
        return real(opened, arguments[0][:size])

    monkeypatch.setattr(os, name, fail)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_in_the_middle_of_a_record_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    kept = Spool(tmp_path, MAX)
    kept.append(batch(1))
    with monkeypatch.context() as patch:
        failing(patch, "write", error, after=7)
        with pytest.raises(SpoolFullError, match=os.strerror(error)) as refused:
            kept.append(batch(2))
    assert refused.value.reason == ("full" if error == errno.ENOSPC else "unwritable")
    kept.append(batch(3))
    kept.close()
    again = Spool(tmp_path, MAX)
    assert drained(again) == ["1", "3"]
    assert again.take_losses() == []


@pytest.mark.parametrize("records", [0, 1])
def test_a_disk_that_turns_read_only_refuses_and_takes_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    kept = Spool(tmp_path, MAX)
    for number in range(records):
        kept.append(batch(number))
    with monkeypatch.context() as patch:
        failing(patch, "write", errno.EROFS, after=9)
        failing(patch, "ftruncate", errno.EROFS)
        with pytest.raises(SpoolFullError, match="Read-only") as refused:
            kept.append(batch(8))
    assert refused.value.reason == "unwritable"
    kept.append(batch(9))
    assert drained(kept) == [*map(str, range(records)), "9"]
    assert kept.take_losses() == []
    assert not list(tmp_path.glob("*.spool"))


def test_a_spool_on_a_read_only_disk_starts_and_takes_batches_when_the_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", read_only)
        kept = Spool(tmp_path / "spool", MAX)
        with pytest.raises(SpoolFullError, match="Read-only"):
            kept.append(batch(1))
        assert kept.peek() is None
    kept.append(batch(2))
    assert drained(kept) == ["2"]


def test_a_folder_that_cannot_be_one_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(OSError, match="spool"):
        Spool(tmp_path / "spool", MAX)


def test_two_receivers_never_share_a_folder(tmp_path: Path) -> None:
    first = Spool(tmp_path, MAX)
    with pytest.raises(SpoolInUseError, match="give each receiver its own folder with SPOOL_DIR"):
        Spool(tmp_path, MAX)
    first.close()
    Spool(tmp_path, MAX).close()


def test_a_folder_that_is_removed_in_use_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 400)
    folder = tmp_path / "spool"
    kept = Spool(folder, 10 * MAX)
    for number in range(10):
        kept.append(batch(number, 50))
    shutil.rmtree(folder)
    kept.append(batch(10, 50))
    assert list(folder.glob("*.spool"))  # where a restart would find it
    assert drained(kept) == [str(number) for number in range(11)]
    assert kept.take_losses() == []


def test_a_removed_file_that_is_open_no_more_is_counted_in_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1)
    monkeypatch.setattr(spool, "MOST_OPEN", 2)
    kept = Spool(tmp_path, 10 * MAX)
    for number in range(6):
        kept.append(batch(number, events=7))
    for path in tmp_path.glob("*.spool"):
        path.unlink()
    left = drained(kept)
    assert 0 < len(left) < 6
    assert {loss.reason for loss in kept.take_losses()} <= {"gone"}
    kept.close()


def test_what_is_no_spool_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "0000000002.spool").mkdir()
    (tmp_path / "notes.spool").write_text("mine")
    (tmp_path / "0000000001.spool").symlink_to("/dev/zero")
    (tmp_path / "0000000007.spool").touch()  # a crash between making and writing
    kept = Spool(tmp_path, MAX)
    for number in range(3):
        kept.append(batch(number))
    assert drained(kept) == ["0", "1", "2"]
    assert kept.take_losses() == []
    assert (tmp_path / "notes.spool").read_text() == "mine"


def test_a_cursor_that_is_damaged_begins_again(tmp_path: Path) -> None:
    kept = Spool(tmp_path, MAX)
    for number in range(3):
        kept.append(batch(number))
    assert kept.peek()
    kept.pop()
    kept.close()
    cursor = tmp_path / "cursor"
    data = bytearray(cursor.read_bytes())
    data[8] ^= 4
    cursor.write_bytes(data)
    again = Spool(tmp_path, MAX)
    assert drained(again) == ["0", "1", "2"]
    assert again.take_losses() == []


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_what_was_read_does_not_come_back_if_its_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 200)
    kept = Spool(tmp_path, MAX)
    for number in range(7):
        kept.append(batch(number))
    with monkeypatch.context() as patch:
        failing(patch, "unlink", error)
        for _ in range(3):
            kept.peek()
            kept.pop()
    kept.close()
    again = Spool(tmp_path, MAX)
    assert drained(again) == ["3", "4", "5", "6"]
    assert again.take_losses() == []
    assert not list(tmp_path.glob("*.spool"))


@pytest.mark.parametrize("noted", range(4))
def test_a_cursor_that_could_not_be_written_invents_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: int
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 200)
    kept = Spool(tmp_path, MAX)
    for number in range(7):
        kept.append(batch(number))
    for number in range(3):
        with monkeypatch.context() as patch:
            if number >= noted:
                failing(patch, "pwrite", errno.EROFS)
            kept.peek()
            kept.pop()
    kept.close()
    again = Spool(tmp_path, MAX)
    # Of the file that is left, what was read may come again.
    assert drained(again)[-4:] == ["3", "4", "5", "6"]
    assert again.take_losses() == []


def test_segments_are_rolled_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 200)
    rolled = Spool(tmp_path, MAX)
    for number in range(20):
        rolled.append(batch(number, 50))
    files = len(list(tmp_path.glob("*.spool")))
    assert files > 3
    for number in range(10):
        assert rolled.peek() == batch(number, 50)
        rolled.pop()
    assert len(list(tmp_path.glob("*.spool"))) < files


class SpoolMachine(RuleBasedStateMachine):
    """The spool against a list, with restarts in between."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._spool = Spool(Path(self._folder.name), 2000)
        self._model: list[Batch] = []
        self._number = 0

    @rule(size=st.integers(0, 900))
    def append(self, size: int) -> None:
        self._number += 1
        try:
            self._spool.append(batch(self._number, size))
        except SpoolFullError:
            assert self._spool.bytes + size > 1800
        else:
            self._model.append(batch(self._number, size))

    @precondition(lambda self: self._model)
    @rule()
    def take(self) -> None:
        assert self._spool.peek() == self._model.pop(0)
        self._spool.pop()

    @rule()
    def restart(self) -> None:
        self._spool.close()
        self._spool = Spool(Path(self._folder.name), 2000)

    @invariant()
    def agrees(self) -> None:
        assert self._spool.peek() == (self._model[0] if self._model else None)
        assert self._spool.bytes <= 2000
        assert self._spool.empty == (not self._model)

    def teardown(self) -> None:
        self._spool.close()
        self._folder.cleanup()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=40)
