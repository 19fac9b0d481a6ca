"""The event socket: who may have it, and what it leaves behind."""

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from devnet.emitter import KEPT, connected
from ingest.receiver import datagram
from ingest.receiver.datagram import (
    RESENT,
    EventSocket,
    SocketInUseError,
    most_held,
    raise_queue_length,
)
from tests.ingest.harness import GOLDEN
from tests.processes import LIMIT, PYTHON, running, until


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


_FLOOD = """
import socket, sys
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.settimeout(30)
to.connect(sys.argv[1])
sent = 0
try:
    while True:
        to.send(b"%d" % (sent + 1))
        sent += 1
        if sent == 1000:
            print("going", flush=True)
except OSError:
    print("sent", sent, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux closes one way of a full socket")
async def test_what_an_engine_could_send_is_read_also_while_the_receiver_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine may end in that moment: then it sends nothing again."""
    close = datagram._Listening.close

    def late(listening: datagram._Listening) -> None:
        time.sleep(0.3)  # the moment lasts longer, and is there in every run
        close(listening)

    monkeypatch.setattr(datagram._Listening, "close", late)
    sock = bound(tmp_path / "events.sock", limit=2**30)
    sock.start(lambda: None)
    with running([PYTHON, "-c", _FLOOD, sock.path], tmp_path / "log") as flood:
        await flood.saying("going")
        await asyncio.to_thread(sock.stop)
        await flood.saying("sent")
        sent = int(flood.output.split()[-1])
    assert [int(datagram) for datagram in sock.take(2**30)] == list(range(1, sent + 1))


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


def test_what_a_receiver_holds_and_the_kernel_may_hold_is_what_engines_send_again(
    tmp_path: Path,
) -> None:
    kept = re.search(r"#define TBG_KEPT (\d+)", Path("ckpool/src/tbg_sender.h").read_text())
    assert kept is not None
    assert min(KEPT, int(kept[1])) >= RESENT
    assert most_held(100_000, 4096) < most_held(100_000, 10) < RESENT - 11
    assert most_held(20, 10) == 20
    # The smallest event that an engine of ours can send, until the kernel takes no more.
    sock = bound(tmp_path / "events.sock")
    smallest = min((path.read_bytes() for path in GOLDEN.glob("*.json")), key=len)
    sent = 0
    with connected(str(sock.path)) as engine, contextlib.suppress(BlockingIOError):
        while True:
            engine.send(json.dumps(json.loads(smallest), separators=(",", ":")).encode())
            sent += 1
    assert sent + most_held(100_000, sock.queue_length) <= RESENT - 2
    sock.stop()


async def test_what_was_taken_is_held_until_it_is_released(tmp_path: Path) -> None:
    sock = bound(tmp_path / "events.sock", limit=5)
    with client(sock.path) as sender:
        sock.start(lambda: None)
        for number in range(10):
            sender.send(str(number).encode())
        await until(lambda: len(sock.queue) == 5)
        taken = sock.take(3)
        await asyncio.sleep(0.3)  # a reader that looked away would have come back
        assert len(sock.queue) == 2
        sock.release(len(taken))
        await until(lambda: len(sock.queue) == 5)
    sock.stop()
    assert sock.take(100) == [str(number).encode() for number in range(3, 10)]


@pytest.mark.parametrize("gone", ["socket", "socket and lock", "folder", "stale socket"])
async def test_a_removed_file_is_bound_again_and_the_old_socket_is_still_read(
    tmp_path: Path, gone: str
) -> None:
    path = tmp_path / "run" / "events.sock"
    sock = bound(path)
    sock.start(lambda: None)
    before = client(path)
    before.send(b"1")
    path.unlink()
    if gone == "socket and lock":
        path.with_name("events.sock.lock").unlink()
    elif gone == "folder":
        path.with_name("events.sock.lock").unlink()
        path.parent.rmdir()
    elif gone == "stale socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(path))
    before.send(b"2")
    sock.check()
    assert sock.trouble == ""
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    with pytest.raises(SocketInUseError):
        bound(path)
    after = client(path)
    after.send(b"3")
    before.send(b"4")
    assert sorted(await emptied(sock, 4)) == [b"1", b"2", b"3", b"4"]
    before.send(b"5")
    after.send(b"6")
    sock.stop()
    assert sorted(sock.take(10)) == [b"5", b"6"]
    assert not path.exists()
    before.close()
    after.close()


async def test_a_path_that_another_program_took_is_said_and_taken_back_when_it_is_free(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.sock"
    sock = bound(path)
    sock.start(lambda: None)
    path.unlink()
    path.write_text("no socket")
    sock.check()
    assert "is no socket" in sock.trouble
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        sock.check()
        assert "something else listens" in sock.trouble
        assert path.exists()
    sock.check()
    assert sock.trouble == ""
    with client(path) as sender:
        sender.send(b"x")
        assert await emptied(sock, 1) == [b"x"]
    sock.stop()


async def test_sockets_that_are_removed_again_and_again_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    sock = bound(path, limit=10_000)
    sock.start(lambda: None)
    clients = []
    for number in range(2 * datagram._OLD_SOCKETS):
        clients.append(client(path))
        clients[-1].send(str(number).encode())
        path.unlink()
        sock.check()
    count = len(clients)
    assert sorted(await emptied(sock, count)) == sorted(str(n).encode() for n in range(count))
    for one in clients:
        one.close()
    sock.stop()
