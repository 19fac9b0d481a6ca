"""The event socket: who may have it, and what it leaves behind."""

import asyncio
import os
import random
import socket
import stat
from pathlib import Path

import pytest

from ingest import datagram
from ingest.datagram import EventSocket, SocketInUseError, raise_queue_length
from tests.processes import LIMIT, until


def bound(path: Path, limit: int = 1000) -> EventSocket:
    return EventSocket(path, mode=0o640, group="", queue_length=64, limit=limit)


def client(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.connect(str(path))
    return made


async def emptied(sock: EventSocket, count: int) -> list[bytes]:
    taken: list[bytes] = []

    def all_of_them() -> bool:
        found = sock.take(count)
        sock.release(len(found))
        taken.extend(found)
        return len(taken) >= count

    await until(all_of_them)
    return taken


@pytest.fixture(autouse=True, params=["long queue", "short queue"])
def queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading, whatever the kernel's limit is here."""
    monkeypatch.setattr(datagram, "LOW_QUEUE_LENGTH", 0 if request.param == "long queue" else 2**31)


def test_only_owner_and_group_may_write(tmp_path: Path) -> None:
    sock = bound(tmp_path / "deep" / "events.sock")
    assert stat.S_IMODE(os.stat(sock.path).st_mode) == 0o640
    sock.stop()
    assert not sock.path.exists()


def test_a_live_socket_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    first = bound(path)
    with pytest.raises(SocketInUseError, match="another receiver listens"):
        bound(path)
    first.stop()
    bound(path).stop()


def test_a_socket_of_another_program_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(SocketInUseError, match="something else listens"):
            bound(path)
        other_still_there = client(path)
        other_still_there.send(b"x")
        assert other.recv(10) == b"x"
        other_still_there.close()
    bound(path).stop()  # now it is stale, and replaced


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is no socket"):
        bound(path)
    assert path.read_text() == "precious"


async def test_everything_that_was_sent_before_the_end_is_there(tmp_path: Path) -> None:
    sock = bound(tmp_path / "events.sock")
    sender = client(sock.path)
    sock.start(lambda: None)
    for number in range(200):
        sender.send(str(number).encode())
    sock.stop()
    assert sock.take(1000) == [str(number).encode() for number in range(200)]
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        sender.send(b"too late")
    sender.close()


async def test_whoever_waits_is_told_of_every_datagram(tmp_path: Path) -> None:
    sock = bound(tmp_path / "events.sock")
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    sock.start(lambda: loop.call_soon_threadsafe(arrived.set))
    draw = random.Random(1)
    with client(sock.path) as sender:
        for _ in range(300):
            # The second may come while the reading thread looks elsewhere.
            pauses = iter([0.0, draw.uniform(0, 2 * datagram.NAP)])
            taken = 0
            while taken < 2:
                for pause in pauses:
                    await asyncio.sleep(pause)
                    sender.send(b"x")
                    break
                arrived.clear()
                if sock.wait():
                    async with asyncio.timeout(LIMIT):
                        await arrived.wait()
                taken += len(sock.take(10))
    sock.stop()


async def test_an_empty_datagram_does_not_stop_the_reading(tmp_path: Path) -> None:
    sock = bound(tmp_path / "events.sock")
    sender = client(sock.path)
    sock.start(lambda: None)
    sender.send(b"")
    sender.send(b"x")
    assert await emptied(sock, 2) == [b"", b"x"]
    sock.stop()
    sender.close()


async def test_reading_pauses_when_memory_is_full_and_goes_on_after(tmp_path: Path) -> None:
    sock = bound(tmp_path / "events.sock", limit=5)
    sender = client(sock.path)
    sender.setblocking(False)
    sock.start(lambda: None)
    sent = 0
    refused = False
    while not refused:  # memory and the kernel's queue are full: the sender is told
        try:
            sender.send(str(sent).encode())
        except BlockingIOError:
            await asyncio.sleep(0.2)
            try:
                sender.send(str(sent).encode())
            except BlockingIOError:
                refused = True
            else:
                sent += 1
        else:
            sent += 1
    assert len(sock.queue) <= 6
    assert await emptied(sock, sent) == [str(number).encode() for number in range(sent)]
    sock.stop()
    sender.close()


def test_a_low_queue_length_that_may_not_be_raised_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file that may not be written stands for /proc/sys without root.
    file = tmp_path / "max_dgram_qlen"
    file.mkdir()
    monkeypatch.setattr(datagram, "QUEUE_LENGTH_FILE", file)
    assert raise_queue_length(100) is None
    file.rmdir()
    file.write_text("4096\n")
    assert raise_queue_length(512) == 4096
    file.write_text("10\n")
    assert raise_queue_length(512) == 512
    assert file.read_text() == "512"
