"""An engine that numbers its events, waits while nobody receives, and never gives up."""

import random
import socket
import threading
import time
from collections import deque
from pathlib import Path

from ingest.receiver.datagram import RESENT
from tests import mixture

_TICK = 0.005  # seconds


class Engine:
    """One boot of an engine, sending from a thread of its own.

    It sends the mixture of an ordinary day. One share in twenty is rejected, one in a
    hundred breaks the contract, and one event in fifty may be sent twice. As the ckpool fork does, it
    sends its last 2,048 events again to a receiver that takes over from one that died.

    Args:
        path: the event socket.
        name: instance, and address of the engine's only user where none is named.
        rate: events a second; 0 for as fast as the socket takes them.
        seed: of what it sends.
        resends: whether it sends some events twice.
        users: addresses of its users, who take turns.

    Attributes:
        sent: the highest number that the socket took.
        broken: events sent that must become dead letters.
        resent: events sent twice.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        rate: int,
        seed: str,
        *,
        resends: bool,
        users: tuple[str, ...] = (),
    ) -> None:
        self._path = str(path)
        self.name = name
        self._users = users or (name,)
        self._rate = rate
        self._random = random.Random(seed)
        self._resends = 0.02 if resends else 0.0
        self._socket: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._kept: deque[bytes] = deque(maxlen=RESENT)
        self._again: deque[bytes] = deque()
        self.sent = 0
        self.broken = 0
        self.resent = 0

    def _make(self, seq: int) -> bytes:
        event = mixture.kind(self._random)
        stamp = time.time_ns() // 1000
        share = event == "share_submitted"
        broken = share and self._random.random() < 0.01
        self.broken += broken
        return mixture.datagram(
            event,
            instance=self.name,
            seq=seq,
            micros=stamp,
            user=self._users[seq % len(self._users)],
            valid=not share or self._random.random() > 0.05,
            broken=broken,
        )

    def start(self) -> "Engine":
        """Begins."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends after the event that is on its way."""
        self._stopping.set()
        self._thread.join()

    def send(self) -> int:
        """Sends one event more, from the caller's thread, and returns its number."""
        self._deliver(self._make(self.sent + 1))
        self.sent += 1
        return self.sent

    def close(self) -> None:
        """Closes the socket."""
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._stopping.is_set():
            if self._rate and self.sent >= self._rate * (time.monotonic() - begun):
                time.sleep(_TICK)
                continue
            datagram = self._make(self.sent + 1)
            if not self._deliver(datagram):
                return
            self.sent += 1
            if self._random.random() < self._resends and self._deliver(datagram):
                self.resent += 1

    def _deliver(self, datagram: bytes) -> bool:
        """Sends, however long it takes; False when it was told to end meanwhile."""
        while True:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    self._socket.settimeout(0.5)
                    self._socket.connect(self._path)
                    self._again = deque(self._kept)
                while self._again:
                    self._socket.send(self._again[0])
                    self._again.popleft()
                self._socket.send(datagram)
            except TimeoutError:
                pass  # the receiver does not read
            except (ConnectionRefusedError, FileNotFoundError, ConnectionResetError):
                assert self._socket is not None
                self._socket.close()
                self._socket = None
                time.sleep(0.01)
            else:
                self._kept.append(datagram)
                return True
            if self._stopping.is_set():
                return False
