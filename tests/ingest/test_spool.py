"""The spool: batches come back in order, whatever happens to the process."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest import spool
from ingest.entry import Batch
from ingest.spool import Spool, SpoolFullError

MAX = 10_000


def batch(number: int, size: int = 10) -> Batch:
    return Batch("mark", str(number), {"mining:ledger": [b"x" * size]}, 1)


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
    kept = Spool(tmp_path, 300)
    kept.append(batch(1, 100))
    with pytest.raises(SpoolFullError, match="limit of 300 bytes"):
        kept.append(batch(2, 200))
    kept.append(batch(3, 10))
    assert kept.peek() == batch(1, 100)


def test_a_disk_that_is_full_is_told_and_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full disk as the system reports it: the write stops half-way, then fails.
    kept = Spool(tmp_path, MAX)
    kept.append(batch(1))
    real, calls = os.write, iter([7, None])

    def write(opened: int, data: bytes) -> int:
        size = next(calls)
        if size is None:
            raise OSError(28, "No space left on device")
        return real(opened, data[:size])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(SpoolFullError, match="No space left"):
            kept.append(batch(2))
    kept.append(batch(3))
    kept.close()
    again = Spool(tmp_path, MAX)
    assert again.peek() == batch(1)
    again.pop()
    assert again.peek() == batch(3)
    assert again.corrupt_bytes == 0


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_record_ends_its_segment_and_is_counted(tmp_path: Path, damage: str) -> None:
    broken = Spool(tmp_path, MAX)
    broken.append(batch(1))
    whole = broken.bytes
    broken.append(batch(2))
    broken.close()
    file = next(tmp_path.glob("*.spool"))
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[-3:]
    else:
        data[-3] ^= 1
    file.write_bytes(data)
    again = Spool(tmp_path, MAX)
    again.append(batch(3))  # what comes after a crash is not behind the damage
    assert again.peek() == batch(1)
    again.pop()
    assert again.peek() == batch(3)
    assert again.corrupt_bytes == len(data) - whole


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
