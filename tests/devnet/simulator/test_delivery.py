"""What leaves the simulator arrives, or is counted."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest

from devnet.simulator.delivery import send_all, send_paced
from devnet.simulator.fleet import build_fleet
from devnet.simulator.journal import Batch
from devnet.simulator.outlet import Outlet
from devnet.simulator.pacer import Pacer
from devnet.simulator.scenario import Scenario
from devnet.simulator.summary import Summary
from devnet.simulator.traffic import simulate
from tbg_core.boots import left_behind
from tbg_core.decode import decode
from tests.devnet.simulator.conftest import MONDAY, PATIENCE

HISTORY = Scenario(miners=100, start=MONDAY, span=120.0)


def batches_of(scenario: Scenario) -> list[Batch]:
    return list(simulate(scenario, build_fleet(scenario)))


def lines_of(batches: list[Batch]) -> list[bytes]:
    return list(chain.from_iterable(batch.datagrams() for batch in batches))


def bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    receiver.settimeout(PATIENCE)
    return receiver


class NotedOutlet(Outlet):
    """Says when its sender has found the receiver full, or missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.blocked = threading.Event()

    def wait(self, seconds: float) -> None:
        self.blocked.set()
        super().wait(seconds)


@contextmanager
def sending(path: Path, batches: list[Batch]) -> Iterator[tuple[Summary, threading.Event]]:
    """Sends all batches from a thread, and is over when the thread is."""
    summary = Summary(HISTORY)
    outlet = NotedOutlet(path)

    def run() -> None:
        with outlet:
            for _ in send_all(batches, outlet, summary, lambda: False):
                pass

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield summary, outlet.blocked
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_history_waits_for_a_slow_receiver_and_loses_nothing(socket_path: Path) -> None:
    batches = batches_of(HISTORY)
    wanted = lines_of(batches)
    with bind(socket_path) as receiver, sending(socket_path, batches) as (summary, blocked):
        assert blocked.wait(PATIENCE)
        got = [receiver.recv(8192) for _ in wanted]
    assert got == wanted
    assert summary.events == len(wanted)
    assert summary.waited > 0
    assert not summary.dropped


def test_history_goes_on_with_a_receiver_that_comes_back(socket_path: Path) -> None:
    batches = batches_of(HISTORY)
    wanted = lines_of(batches)
    with sending(socket_path, batches) as (summary, _):
        with bind(socket_path) as receiver:
            first = [receiver.recv(8192) for _ in range(1000)]
            # Nothing may arrive any more before the rest of the queue is read.
            receiver.shutdown(socket.SHUT_RD)
            receiver.setblocking(False)
            while True:
                try:
                    datagram = receiver.recv(8192)
                except BlockingIOError:
                    break
                if not datagram:
                    break
                first.append(datagram)
        with bind(socket_path) as receiver:
            second = [receiver.recv(8192) for _ in range(len(wanted) - len(first))]
    assert first + second == wanted
    assert summary.events == len(wanted)


def test_history_stops_when_asked_although_nobody_listens(socket_path: Path) -> None:
    summary = Summary(HISTORY)
    asked = iter([False] * 5 + [True] * 100)
    with Outlet(socket_path) as outlet:
        assert list(send_all(batches_of(HISTORY), outlet, summary, lambda: next(asked))) == []
    assert summary.events == 0


def run_paced(
    path: Path, batches: list[Batch], start: int, patience: float, outlet: Outlet | None = None
) -> tuple[Summary, Pacer]:
    pacer = Pacer(start, lambda: False)
    summary = Summary(HISTORY)
    with outlet or Outlet(path) as outlet:
        for _ in send_paced(
            batches, outlet, pacer, summary, lambda: False, patience=patience, until=2**62
        ):
            pass
    return summary, pacer


def test_live_events_that_a_full_receiver_refuses_are_dropped_counted_and_leave_a_gap(
    socket_path: Path,
) -> None:
    start = time.time_ns() // 1000
    scenario = Scenario(miners=100, start=start, span=0.5, rate=2000.0)
    batches = batches_of(scenario)
    with bind(socket_path) as receiver:
        summary, _ = run_paced(socket_path, batches, start, patience=0.0)
        receiver.setblocking(False)
        got = []
        while True:
            try:
                got.append(receiver.recv(8192))
            except BlockingIOError:
                break
    total = sum(map(len, batches))
    assert 0 < len(got) < total
    assert summary.events == len(got)
    assert summary.dropped == {"receiver_slow": total - len(got)}
    # The kernel's queue took the first ones; what came after is missing from the sequence.
    assert [decode(line).seq for line in got] == list(range(1, len(got) + 1))


def test_live_events_without_a_receiver_are_dropped_and_counted(socket_path: Path) -> None:
    start = time.time_ns() // 1000
    batches = batches_of(Scenario(miners=10, start=start, span=0.2, rate=500.0))
    summary, _ = run_paced(socket_path, batches, start, patience=0.0)
    assert summary.events == 0
    assert summary.dropped == {"receiver_absent": sum(map(len, batches))}


def test_a_patient_sender_waits_for_room_instead_of_dropping(socket_path: Path) -> None:
    start = time.time_ns() // 1000
    batches = batches_of(Scenario(miners=100, start=start, span=0.5, rate=2000.0))
    wanted = lines_of(batches)
    with bind(socket_path) as receiver:
        got: list[bytes] = []

        outlet = NotedOutlet(socket_path)

        def read() -> None:
            if outlet.blocked.wait(PATIENCE):
                got.extend(receiver.recv(8192) for _ in wanted)

        reader = threading.Thread(target=read)
        reader.start()
        summary, _ = run_paced(socket_path, batches, start, patience=PATIENCE, outlet=outlet)
        reader.join(PATIENCE)
    assert got == wanted
    assert not summary.dropped
    assert summary.waited > 0


def test_no_live_event_is_sent_before_its_timestamp(socket_path: Path) -> None:
    start = time.time_ns() // 1000 + 100_000
    batches = batches_of(Scenario(miners=20, start=start, span=0.5, rate=300.0))
    wanted = lines_of(batches)
    early = []
    with bind(socket_path) as receiver:

        def read() -> None:
            for _ in wanted:
                event = decode(receiver.recv(8192))
                if time.time_ns() // 1000 < event.timestamp - 1000:  # clocks may be corrected
                    early.append(event)

        reader = threading.Thread(target=read)
        reader.start()
        summary, pacer = run_paced(socket_path, batches, start, patience=PATIENCE)
        reader.join(PATIENCE)
    assert not early
    assert summary.events == len(wanted) == pacer.lateness.count


def test_a_path_that_no_socket_can_have_is_an_error_and_not_a_receiver_that_is_away(
    socket_path: Path,
) -> None:
    with Outlet(socket_path) as outlet:
        assert outlet.connect() is not None
    with Outlet(socket_path.parent / ("x" * 200)) as outlet, pytest.raises(OSError, match="long"):
        outlet.connect()


def test_every_simulated_boot_is_vouched_for_with_its_last_number(socket_path: Path) -> None:
    batches = batches_of(Scenario(miners=100, start=MONDAY, span=3600.0, restart_every=600.0))
    wanted = lines_of(batches)
    last = {event.instance: event.seq for event in map(decode, wanted)}
    assert len(last) > 1
    with bind(socket_path) as receiver, sending(socket_path, batches):
        got: list[bytes] = []
        while len(got) < len(wanted):
            datagram = receiver.recv(8192)
            if decode(datagram).event != "engine_status":
                got.append(datagram)
    assert got == wanted
    left = {status.instance: status for _, status in left_behind(socket_path)}
    assert {name: (said.last_seq, said.unsent) for name, said in left.items()} == {
        name: (seq, 0) for name, seq in last.items()
    }
    assert {(said.source, said.state) for said in left.values()} == {("simulated", "ended")}


def test_what_a_simulated_boot_dropped_is_never_handed_over(socket_path: Path) -> None:
    start = time.time_ns() // 1000
    batches = batches_of(Scenario(miners=100, start=start, span=0.5, rate=2000.0))
    with bind(socket_path):
        summary, _ = run_paced(socket_path, batches, start, patience=0.0)
    assert summary.dropped.total() > 0
    ((_, said),) = left_behind(socket_path)
    assert (said.last_seq, said.unsent) == (len(lines_of(batches)), summary.dropped.total())


def test_a_simulated_boot_that_dies_in_the_middle_of_a_batch_has_handed_over_what_it_sent(
    socket_path: Path,
) -> None:
    with bind(socket_path), Outlet(socket_path) as outlet:
        outlet.boot("simulator-1/1")
        for number in (1, 2):
            outlet.number(number)
            assert outlet.offer(b"{}") is None
        outlet.number(3)
        (page,) = socket_path.parent.glob("*.boot")
        dead = page.with_name(f"{socket_path.name}.copy.boot")  # no process has its lock
        dead.write_bytes(page.read_bytes())
        ((_, said),) = left_behind(socket_path)
        assert (said.last_seq, said.unsent) == (3, 1)
