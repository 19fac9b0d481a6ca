"""Datagrams reach the receiver however long it takes, and the next one if that receiver dies."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tbg.sharelog.delivery import Delivery, Stopped


@contextmanager
def receiver(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(60)
        yield made


def never() -> bool:
    return False


def test_it_waits_for_a_receiver_that_is_slow(server_folder: Path) -> None:
    path = server_folder / "events.sock"
    count = 20_000  # far beyond any queue
    with receiver(path) as listening, Delivery(path, never, print) as delivery:

        def send() -> None:
            for number in range(count):
                delivery.send(b"%d" % number)

        thread = threading.Thread(target=send)
        thread.start()
        assert [listening.recv(100) for _ in range(count)] == [b"%d" % n for n in range(count)]
        thread.join()
    assert delivery.resent == 0


def test_a_receiver_that_takes_over_gets_what_the_last_one_may_have_lost(
    server_folder: Path,
) -> None:
    path = server_folder / "events.sock"
    said: list[str] = []
    with Delivery(path, never, said.append) as delivery:
        with receiver(path) as first:
            delivery.send(b"1")
            delivery.send(b"2")
            assert first.recv(100) == b"1"
        with receiver(path) as second:
            delivery.send(b"3")
            assert [second.recv(100) for _ in range(3)] == [b"1", b"2", b"3"]
    assert delivery.resent == 2


def test_it_ends_when_that_is_asked_for_and_says_what_it_waited_for(server_folder: Path) -> None:
    path = server_folder / "nobody.sock"
    said: list[str] = []
    with Delivery(path, lambda: True, said.append) as delivery, pytest.raises(Stopped):
        delivery.send(b"1")
    assert said == [f"no receiver at {path}: waiting"]
    with receiver(path), Delivery(path, lambda: True, said.append) as delivery:

        def send_much() -> None:  # and nobody reads
            for _ in range(1_000_000):
                delivery.send(b"x" * 1000)

        with pytest.raises(Stopped):
            send_much()


def test_what_waiting_does_not_cure_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    delivery = Delivery(tmp_path / "file" / "x.sock", never, print)
    with pytest.raises(OSError, match="Not a directory"):
        delivery.send(b"1")
