"""An engine as a process: the devnet pool's own emitter, with a mixture of events to emit.

``python -m tests.faults.program`` takes its options as JSON. It emits at its rate, more when it
is told to, and keeps the suite's journal. SIGTERM ends it as an engine ends.
"""

import asyncio
import contextlib
import json
import random
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import structlog

import devnet.emitter
from devnet.emitter import Emitter
from tests import mixture
from tests.faults.journal import Journal

HOUR = 3_600_000_000  # microseconds
TOO_OLD = 91 * 24 * HOUR  # the writer keeps 90 days
_TICK = 0.005  # seconds
_TWICE = 0.02  # of what is sent is sent twice
_BROKEN = 0.01  # of the shares break the contract
_REJECTED = 0.05
_SEQ = re.compile(rb'"seq":(\d+)')

_connected = devnet.emitter.connected


class Noting(socket.socket):
    """The emitter's socket, which notes what the receiver's socket took."""

    journal: Journal
    receiver: int
    draw: random.Random

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As a socket does."""
        sent = super().send(data, flags)
        found = _SEQ.search(data)
        if found is not None:
            self.journal.handed(int(found[1]), self.receiver)
            if self.draw.random() < _TWICE:
                with contextlib.suppress(OSError):  # the first went through
                    super().send(data, flags)
        return sent


class Engine:
    """One boot.

    Args:
        options: ``socket``, ``name``, ``journal``, ``rate`` in events a second, ``seed``, and
            ``receiver``, the file that says which receiver has the socket.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._rate: float = options["rate"]
        self._journal = Journal(Path(options["journal"]))
        self._draw = random.Random(options["seed"])
        self._clock = 0  # microseconds that it is wrong by
        self._extra = 0
        self._stopping = False

    def connect(self, path: str) -> socket.socket:
        """Replaces the emitter's way to make its socket."""
        made = _connected(path)
        noting = Noting(made.family, made.type, fileno=made.detach())
        noting.setblocking(False)
        noting.journal, noting.draw = self._journal, random.Random(self._draw.random())
        # A receiver that has just died may be followed by the next one's number: nothing can
        # be handed to its socket then.
        noting.receiver = int(Path(self._options["receiver"]).read_text())
        return noting

    async def run(self) -> None:
        """Emits until SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_reader(sys.stdin.fileno(), self._command)
        async with Emitter(self._options["socket"], self._options["name"]) as emitter:
            self._journal.name = emitter.instance
            print("emitting", flush=True)
            begun, made = time.monotonic(), 0
            while not self._stopping:
                due = int(self._rate * (time.monotonic() - begun)) - made
                made += due
                due, self._extra = due + self._extra, 0
                for at in range(due):
                    self._emit(emitter)
                    if at % 100 == 99:
                        await asyncio.sleep(0)
                await asyncio.sleep(_TICK)

    def _emit(self, emitter: Emitter) -> None:
        event = mixture.kind(self._draw)
        share = event == "share_submitted"
        broken = share and self._draw.random() < _BROKEN
        refused = broken or self._clock > HOUR or self._clock < -TOO_OLD
        self._journal.will_emit(emitter.seq + 1, broken=refused)
        value = json.loads(
            mixture.datagram(
                event,
                instance="",
                seq=0,
                micros=0,
                user=self._options["name"],
                valid=not share or self._draw.random() > _REJECTED,
                broken=broken,
            )
        )
        emitter.emit(event, value["data"], timestamp=time.time_ns() // 1000 + self._clock)

    def _stop(self) -> None:
        self._stopping = True

    def _command(self) -> None:
        line = sys.stdin.readline()
        if not line:
            self._stopping = True  # who started us is gone
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            return
        word, number = line.split()
        if word == "clock":
            self._clock = int(number)
        else:
            self._extra += int(number)


def main() -> None:
    """Runs one boot."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    engine = Engine(json.loads(sys.argv[1]))
    devnet.emitter.connected = engine.connect
    asyncio.run(engine.run())


if __name__ == "__main__":
    main()
