"""What an engine leaves behind says exactly how far it had numbered."""

import asyncio
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import structlog

from devnet import emitter as emitters
from devnet.emitter import QUEUE_SIZE, Emitter
from ingest.counts import Tally, parse_report
from tbg_core import boots
from tbg_core.boots import Page, Status, datagram, left_behind
from tbg_core.decode import Decoded, decode
from tbg_core.events import MAX_DATAGRAM
from tests.processes import PYTHON, until

BLOCK = {"height": 1, "hash": "ab" * 32, "network_difficulty": 1.0}
# Emits so many events, says its name, and then does as it is told.
ENGINE = """
import asyncio, sys, structlog
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
from devnet.emitter import Emitter
async def main():
    async with Emitter(sys.argv[1], sys.argv[2]) as emitter:
        for _ in range(int(sys.argv[3])):
            emitter.emit("new_block_network", {"height": 1, "hash": "ab" * 32, "network_difficulty": 1.0})
        print(emitter.instance, flush=True)
        if sys.argv[4] == "stay":
            await asyncio.sleep(1000)
asyncio.run(main())
"""


def run(path: Path, name: str, events: int, then: str) -> tuple[subprocess.Popen[str], str]:
    """An engine as a process, and its instance."""
    process = subprocess.Popen(
        [PYTHON, "-c", ENGINE, str(path), name, str(events), then],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def killed(path: Path, name: str, events: int) -> str:
    """The instance of an engine that was killed after so many events."""
    process, instance = run(path, name, events, "stay")
    process.kill()
    process.communicate()
    return instance


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.sock"


def found(path: Path) -> dict[str, tuple[int, int | None, str]]:
    return {
        status.instance: (status.last_seq, status.unsent, status.state)
        for _, status in left_behind(path)
    }


def test_a_killed_engine_leaves_its_last_number_and_what_it_never_handed_over(
    path: Path,
) -> None:
    instance = killed(path, "pool", 300)
    assert found(path) == {instance: (300, 300, "ended")}


def test_an_engine_that_gave_more_numbers_than_its_queue_holds_leaves_them_all(
    path: Path,
) -> None:
    instance = killed(path, "pool", QUEUE_SIZE + 7)
    assert found(path) == {instance: (QUEUE_SIZE + 7, QUEUE_SIZE + 7, "ended")}


def test_the_page_of_a_living_engine_is_left_alone_beside_those_of_its_former_boots(
    path: Path,
) -> None:
    first = killed(path, "pool", 3)
    process, second = run(path, "pool", 5, "stay")
    other = killed(path, "pool", 4)  # a boot beside it, by mistake
    assert found(path) == {first: (3, 3, "ended"), other: (4, 4, "ended")}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert found(path)[second] == (5, 5, "ended")


def test_a_clean_stop_without_a_receiver_leaves_the_same(path: Path) -> None:
    process, instance = run(path, "pool", 9, "end")
    process.communicate()
    assert found(path) == {instance: (9, 9, "ended")}


def test_after_a_crash_of_the_machine_the_last_number_is_a_lower_bound(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = killed(path, "pool", 3)
    closed = Page("pool/2", "hosted")
    closed.open(path)
    closed.note(8, 0)
    closed.close()  # written to the disk
    monkeypatch.setattr(boots, "machine_boot", lambda: "another life")
    assert found(path) == {instance: (3, 3, "crashed"), "pool/2": (8, 8, "ended")}
    monkeypatch.setattr(boots, "machine_boot", lambda: "")  # a system that does not say
    assert found(path)[instance] == (3, 3, "crashed")


def test_files_that_are_no_pages_are_left_out(path: Path, tmp_path: Path) -> None:
    killed(path, "pool", 3)
    ((page, status),) = left_behind(path)
    raw = page.read_bytes()
    for name, content in {
        "empty": b"",
        "zeros": bytes(len(raw)),
        "short": raw[:100],
        "magic": raw.replace(boots._MAGIC.to_bytes(8, "little"), bytes(8)),
        "nul": raw.replace(b"pool/", b"p\\u0000/"),
        "numbers": b"\xff" * 8 + raw[8:],
        "text": raw.replace(b'"instance"', b'"instances'),
    }.items():
        (tmp_path / f"events.sock.{name}.boot").write_bytes(content)
    os.mkfifo(tmp_path / "events.sock.fifo.boot")
    (tmp_path / "events.sock.link.boot").symlink_to(page)
    (tmp_path / "events.sock.folder.boot").mkdir()
    assert [said for _, said in left_behind(path)] == [status]


def test_a_folder_that_takes_no_file_stops_no_engine(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page("pool/1", "hosted")
    page.open(tmp_path / "missing" / "events.sock")
    assert not page.is_open
    page.note(4, 0)
    assert page.status().last_seq == 4
    # Where one is known, another folder takes it.
    page.open(tmp_path / "missing" / "events.sock", path)
    assert page.is_open
    page.close()
    assert found(path) == {"pool/1": (4, 4, "ended")}
    # A full disk takes a part, and no half page stays.
    monkeypatch.setattr(os, "write", lambda _, data: len(data) // 2)
    full = Page("pool/2", "hosted")
    full.open(path)
    assert not full.is_open
    assert len(list(tmp_path.iterdir())) == 1


class Receiver:
    """A bound datagram socket that keeps apart what vouches for engines."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.events: list[Decoded] = []
        self.said: list[tuple[str | None, int, str]] = []

    def read(self) -> None:
        while True:
            try:
                event = decode(self._socket.recv(MAX_DATAGRAM + 1))
            except BlockingIOError:
                return
            if event.event == "engine_status":
                assert event.seq is None
                self.said.append((event.instance, event.data.last_seq, event.data.state))
            else:
                self.events.append(event)

    async def hears(self, *said: tuple[str | None, int, str]) -> None:
        async def heard() -> bool:
            self.read()
            return set(said) <= set(self.said)

        await until(heard)


async def test_an_engine_vouches_for_itself_while_it_runs_and_last_of_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitters, "HEARTBEAT", 0.1)
    monkeypatch.setattr(emitters, "_FIRST_STATUS", 0.1)
    receiver = Receiver(path)
    async with Emitter(path, "pool") as emitter:
        await receiver.hears((emitter.instance, 0, "running"))
        for _ in range(5):
            emitter.emit("new_block_network", BLOCK)
        await receiver.hears((emitter.instance, 5, "running"))
        emitter.emit("new_block_network", {**BLOCK, "note": "x" * MAX_DATAGRAM})  # is dropped
        await receiver.hears((emitter.instance, 6, "running"))
    receiver.read()
    assert receiver.said[-1] == (emitter.instance, 6, "ended")
    assert found(path) == {emitter.instance: (6, 1, "ended")}


async def test_a_disk_that_was_full_at_the_start_takes_the_page_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitters, "_FIRST_STATUS", 0.1)
    fill, full = boots._fill, iter(range(2))  # at the start, and when a receiver is found

    def try_to_fill(opened: int, page: bytearray) -> None:
        if next(full, None) is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(opened, page)

    monkeypatch.setattr(boots, "_fill", try_to_fill)
    receiver = Receiver(path)
    async with Emitter(path, "pool") as emitter:
        emitter.emit("new_block_network", BLOCK)
        await receiver.hears((emitter.instance, 1, "running"))
        assert len(list(path.parent.glob("*.boot"))) == 1
    assert found(path) == {emitter.instance: (1, 0, "ended")}


async def test_the_next_boot_says_how_the_last_ones_ended_until_a_receiver_took_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitters, "HEARTBEAT", 0.1)
    monkeypatch.setattr(emitters, "_RECONNECT_MAX", 0.1)
    first, second, other = (
        (killed(path, name, events), events, "ended")
        for name, events in (("pool", 3), ("pool", 4), ("another", 5))
    )
    async with Emitter(path, "pool"):
        receiver = Receiver(path)
        await receiver.hears(first, second)
        assert other not in receiver.said
        receiver.said.clear()
        await receiver.hears(first, second)  # it may have died with the first ones
        assert len(found(path)) == 3
        monkeypatch.setattr(emitters, "_TAKEN", 0.0)

        async def gone() -> bool:
            receiver.read()
            return set(found(path)) == {other[0]}

        await until(gone)


async def test_an_engine_that_is_quiet_finds_out_that_its_receiver_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitters, "HEARTBEAT", 0.1)
    receiver = Receiver(path)
    async with Emitter(path, "pool") as emitter:
        emitter.emit("new_block_network", BLOCK)

        async def arrived() -> bool:
            receiver.read()
            return len(receiver.events) == 1

        await until(arrived)
        receiver._socket.close()
        receiver = Receiver(path)
        await until(arrived)  # sent again, though nothing new was emitted


def test_the_golden_statement_is_what_an_engine_sends() -> None:
    golden = json.loads((Path(__file__).parents[1] / "messages/engine_status.json").read_text())
    data = golden["data"]
    status = Status(
        golden["instance"],
        golden["source"],
        golden["timestamp"],
        data["last_seq"],
        data["unsent"],
        data["state"],
    )
    assert json.loads(datagram(status)) == golden
    assert decode(json.dumps(golden).encode()).data.last_seq == data["last_seq"]


def test_a_clock_that_was_never_set_keeps_no_statement_out_of_the_books(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(path, "pool", 3)
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # 1970
    ((_, status),) = left_behind(path)
    tally = Tally()
    tally.status(status)
    assert parse_report(tally.take()).statuses == [status]


def test_two_readers_of_a_page_do_not_take_each_other_for_the_engine(path: Path) -> None:
    killed(path, "pool", 3)
    ((page, _),) = left_behind(path)
    with page.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert len(found(path)) == 1


async def test_a_number_given_after_the_end_is_noted(path: Path) -> None:
    emitter = Emitter(path, "pool")
    async with emitter:
        emitter.emit("new_block_network", BLOCK)
        await emitter.close(within=0)
    emitter.emit("new_block_network", BLOCK)
    await asyncio.sleep(0)
    assert found(path) == {emitter.instance: (2, 2, "ended")}


def test_a_page_that_cannot_be_read_is_said_once_and_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    sound, damaged = killed(path, "sound", 3), killed(path, "damaged", 3)
    broken = next(one for one in tmp_path.glob("*.boot") if damaged.encode() in one.read_bytes())
    broken.write_bytes(broken.read_bytes().replace(b'"instance"', b'"instance', 1))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert [status.instance for _, status in left_behind(path)] == [sound]
    assert [line["file"] for line in logs] == [str(broken)]
