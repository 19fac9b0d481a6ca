"""Writes events as numbered JSON datagrams, in batches."""

from dataclasses import dataclass
from math import inf
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from devnet.simulator.scenario import Scenario
from tbg_core.events import EVENTS
from tbg_core.periods import SECOND

KINDS: Final = tuple(EVENTS)
"""Event names; ``Batch.kinds`` holds places in it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive events.

    ``kinds`` has a byte for each event (its place in ``KINDS``), ``due`` the moments in
    microseconds (an event's own timestamp may differ: its engine's clock can be wrong), and
    ``body`` the datagrams with a line feed between them (JSON escapes its own).
    """

    instance: str
    kinds: bytes
    due: NDArray[np.int64]
    body: bytes

    def __len__(self) -> int:
        return len(self.kinds)

    def before(self, end: float) -> "Batch":
        """The events of moments before ``end``."""
        return self.head(int(np.searchsorted(self.due, end)))

    def head(self, count: int) -> "Batch":
        """The first ``count`` events."""
        if count >= len(self):
            return self
        body = b"\n".join(self.datagrams()[:count])
        return Batch(self.instance, self.kinds[:count], self.due[:count], body)

    def datagrams(self) -> list[bytes]:
        """The events one by one."""
        return self.body.split(b"\n") if self.body else []


class Journal:
    """Collects events until a batch is taken away.

    Call ``tick`` before the events of one moment; it returns the moment, in microseconds since
    the epoch. ``error`` is how far the engine's clock is ahead of it, in microseconds. ``end`` is
    the moment at which the span is over.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.now = scenario.start
        self.error = 0
        self._scenario = scenario
        self._start = scenario.start
        self._before = 0  # events of the instances before this one
        self._seq = 0
        self._step = None if scenario.rate is None else SECOND / scenario.rate
        self.end = inf if scenario.span == inf else scenario.start + scenario.span * SECOND
        self._heads = [f'{{"event":"{kind}","timestamp":' for kind in KINDS]
        self._kinds: list[int] = []
        self._due: list[int] = []
        self._lines: list[str] = []
        self.boot()

    def boot(self) -> None:
        """The engine starts: a new instance, which counts its events from 1.

        Take away first what the instance before it wrote.
        """
        self._before += self._seq
        self._seq = 0
        self._instance = self._scenario.instance(self.now)
        instance = msgspec.json.encode(self._instance).decode()
        self._middle = f',"source":"simulated","instance":{instance},"seq":'

    def __len__(self) -> int:
        """Events that were not taken yet."""
        return len(self._lines)

    @property
    def over(self) -> bool:
        """Whether the span has passed: an event written now would lie after it."""
        return self.now >= self.end

    @property
    def clock(self) -> int:
        """What the engine's clock says, in microseconds since the epoch."""
        return self.now + self.error

    def tick(self, time: float) -> int:
        """Moves to ``time``, in seconds from the start of the scenario.

        If the scenario sets a rate, the moment follows the number of events instead.
        """
        if self._step is None:
            self.now = self._start + int(time * SECOND)
        else:
            self.now = self._start + int((self._before + self._seq) * self._step)
        return self.now

    def write(self, kind: int, data: str) -> None:
        """Adds an event; ``data`` holds the members of its data object as JSON."""
        self._seq = seq = self._seq + 1
        now = self.now
        self._kinds.append(kind)
        self._due.append(now)
        self._lines.append(
            f'{self._heads[kind]}{now + self.error}{self._middle}{seq},"data":{{{data}}}}}'
        )

    def take(self) -> Batch:
        """Returns what was written since the last call."""
        batch = Batch(
            self._instance,
            bytes(self._kinds),
            np.array(self._due, dtype=np.int64),
            "\n".join(self._lines).encode(),
        )
        self._kinds, self._due, self._lines = [], [], []
        return batch
