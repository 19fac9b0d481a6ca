"""The emitter never waits for the receiver, and counts what the receiver never got."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet.emitter import KEPT, Emitter
from tbg_core.decode import Decoded, decode
from tbg_core.events import MAX_DATAGRAM
from tbg_core.settings import SUN_PATH_MAX
from tests.devnet.pool.harness import PATIENCE
from tests.processes import until

BLOCK = {"height": 1, "hash": "ab" * 32, "network_difficulty": 1.0}


class Receiver:
    """A bound datagram socket that reads when it is asked to."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    async def read(self, count: int) -> list[Decoded]:
        """The next ``count`` events; TimeoutError when they do not come."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            return [
                decode(await loop.sock_recv(self.socket, MAX_DATAGRAM + 1)) for _ in range(count)
            ]

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.sock"


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Receiver]:
    receiver = Receiver(path)
    try:
        yield receiver
    finally:
        receiver.close()


async def test_events_arrive_in_order_with_the_whole_envelope(path: Path) -> None:
    before = time.time_ns() // 1000
    with listening(path) as receiver:
        async with Emitter(path, "devnet-pool") as emitter:
            for _ in range(3):
                emitter.emit("new_block_network", BLOCK)
            events = await receiver.read(3)
    assert [event.seq for event in events] == [1, 2, 3]
    name, boot = str(events[0].instance).split("/")
    assert name == "devnet-pool"
    assert before <= int(boot) <= events[0].timestamp
    assert {(event.event, event.source) for event in events} == {("new_block_network", "hosted")}
    assert events[0].data.height == 1


async def test_a_given_timestamp_is_kept(path: Path) -> None:
    with listening(path) as receiver:
        async with Emitter(path, "x") as emitter:
            emitter.emit("new_block_network", BLOCK, timestamp=1_763_769_600_000_001)
            [event] = await receiver.read(1)
    assert event.timestamp == 1_763_769_600_000_001


async def test_a_receiver_that_does_not_read_delays_nobody_and_loses_nothing(path: Path) -> None:
    """Far more events than the kernel queues, then a reader: all of them come, in order."""
    with listening(path) as receiver:
        async with Emitter(path, "x") as emitter:
            for _ in range(2_000):
                emitter.emit("new_block_network", BLOCK)
                await asyncio.sleep(0)
            # Getting here at all shows it: nothing was read yet, and a blocking send would wait.
            assert emitter.dropped == {}
            events = await receiver.read(2_000)
            await until(lambda: not emitter.queued)
    assert [event.seq for event in events] == list(range(1, 2_001))


async def test_a_full_queue_drops_the_newest_counts_it_and_leaves_a_gap(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.emitter.QUEUE_SIZE", 50)
    with listening(path) as receiver:
        async with Emitter(path, "x") as emitter:
            emitter.emit("new_block_network", BLOCK)
            await receiver.read(1)
            for _ in range(200):
                emitter.emit("new_block_network", BLOCK)
            assert emitter.seq == 201
            assert emitter.dropped == {"receiver_slow": 150}
            kept = await receiver.read(50)
            emitter.emit("new_block_network", BLOCK)
            [after] = await receiver.read(1)
    assert [event.seq for event in kept] == list(range(2, 52))
    assert after.seq == 202


async def test_without_a_receiver_events_wait_then_drop_with_that_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.emitter.QUEUE_SIZE", 5)
    async with Emitter(path, "x") as emitter:
        for _ in range(8):
            emitter.emit("new_block_network", BLOCK)
        assert emitter.dropped == {"receiver_absent": 3}
        with listening(path) as receiver:
            events = await receiver.read(5)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]


async def test_a_new_receiver_gets_again_what_the_old_one_may_not_have_handed_on(
    path: Path,
) -> None:
    async with Emitter(path, "x") as emitter:
        with listening(path) as first:
            for _ in range(KEPT + 3):
                emitter.emit("new_block_network", BLOCK)
            await first.read(KEPT + 3)
        emitter.emit("new_block_network", BLOCK)
        with listening(path) as second:
            emitter.emit("new_block_network", BLOCK)
            events = await second.read(KEPT + 2)
        assert [event.seq for event in events] == list(range(4, KEPT + 6))
        assert emitter.dropped == {}
        assert (emitter.sent, emitter.resent) == (KEPT + 5, KEPT)


async def test_a_receiver_that_dies_while_the_emitter_waits_for_room_is_replaced(
    path: Path,
) -> None:
    async with Emitter(path, "x") as emitter:
        with listening(path) as first:
            for _ in range(500):
                emitter.emit("new_block_network", BLOCK)
            await first.read(2)
        with listening(path) as second:
            events = await second.read(500)
    assert [event.seq for event in events] == list(range(1, 501))


async def test_an_event_beyond_the_contracts_size_is_dropped_alone(path: Path) -> None:
    with listening(path) as receiver:
        async with Emitter(path, "x") as emitter:
            emitter.emit("new_block_network", {**BLOCK, "note": "x" * MAX_DATAGRAM})
            emitter.emit("new_block_network", BLOCK)
            [event] = await receiver.read(1)
    assert event.seq == 2
    assert emitter.dropped == {"too_large": 1}


async def test_closing_sends_what_waits_and_counts_what_it_could_not(path: Path) -> None:
    with listening(path) as receiver:
        async with Emitter(path, "x") as emitter:
            for _ in range(5):
                emitter.emit("new_block_network", BLOCK)
            await emitter.close(within=PATIENCE)
        assert emitter.sent == 5
        assert [event.seq for event in await receiver.read(5)] == [1, 2, 3, 4, 5]
    absent = Emitter(path.with_name("nobody.sock"), "x")
    await absent.__aenter__()
    absent.emit("new_block_network", BLOCK)
    await absent.close(within=0.1)
    absent.emit("new_block_network", BLOCK)
    assert absent.dropped == {"shutdown": 2}


async def test_an_engine_that_stops_gives_a_new_receiver_what_the_old_one_died_with(
    path: Path,
) -> None:
    async with Emitter(path, "x") as emitter:
        with listening(path) as first:
            for _ in range(3):
                emitter.emit("new_block_network", BLOCK)
            await first.read(3)
        # It has nothing to send, and so has not seen that the receiver is gone.
        with listening(path) as second:
            await emitter.close(within=PATIENCE)
            assert [event.seq for event in await second.read(3)] == [1, 2, 3]
    assert (emitter.sent, emitter.resent) == (3, 3)


async def test_an_engine_that_stops_sends_again_to_the_end(path: Path) -> None:
    async with Emitter(path, "x") as emitter:
        with listening(path) as first:
            for _ in range(1000):
                emitter.emit("new_block_network", BLOCK)
            await first.read(1000)
        with listening(path) as second:
            emitter.emit("new_block_network", BLOCK)
            await until(lambda: emitter.resent)  # it is in the middle
            closing = asyncio.create_task(emitter.close(within=PATIENCE))
            events = await second.read(1001)
            await closing
    assert [event.seq for event in events] == list(range(1, 1002))


def test_a_path_no_system_can_bind_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=f"longer than {SUN_PATH_MAX} bytes"):
        Emitter("/" + "x" * 200, "x")
