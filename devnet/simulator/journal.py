"""Writes events down: numbered, stamped, as JSON, in batches."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import inf
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from devnet.simulator.scenario import SECOND, Scenario
from ingest.events import EVENTS

KINDS: Final = tuple(EVENTS)
"""Event names; ``Batch.kinds`` holds places in it."""

_COUNT: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive events.

    ``kinds`` has a byte for each event (its place in ``KINDS``), ``stamps`` the timestamps in
    microseconds, and ``body`` the datagrams with a line feed between them (JSON has none inside).
    """

    kinds: bytes
    stamps: NDArray[np.int64]
    body: bytes

    def __len__(self) -> int:
        return len(self.kinds)

    def before(self, end: float) -> Batch:
        """The events with timestamps below ``end``."""
        return self.head(int(np.searchsorted(self.stamps, end)))

    def head(self, count: int) -> Batch:
        """The first ``count`` events."""
        if count >= len(self):
            return self
        body = b"\n".join(self.datagrams()[:count])
        return Batch(self.kinds[:count], self.stamps[:count], body)

    def datagrams(self) -> list[bytes]:
        """The events one by one."""
        return self.body.split(b"\n") if self.body else []

    def pack(self) -> bytes:
        """The batch as bytes, for a pipe."""
        return b"".join((_COUNT.pack(len(self)), self.kinds, self.stamps.tobytes(), self.body))

    @classmethod
    def unpack(cls, packed: bytes) -> Batch:
        """The batch in ``packed``, as ``pack`` made it."""
        (count,) = _COUNT.unpack_from(packed)
        stamps = _COUNT.size + count
        body = stamps + 8 * count
        return cls(
            packed[_COUNT.size : stamps],
            np.frombuffer(packed[stamps:body], dtype=np.int64),
            packed[body:],
        )


class Journal:
    """Collects events until a batch is taken away.

    ``seq`` counts all events from 1. Call ``tick`` before the events of one moment; it returns
    their common timestamp. ``end`` is the timestamp at which the span is over.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.seq = 0
        self.stamp = scenario.start
        self._start = scenario.start
        self._step = None if scenario.rate is None else SECOND / scenario.rate
        self.end = inf if scenario.span == inf else scenario.start + scenario.span * SECOND
        self._heads = [f'{{"event":"{kind}","timestamp":' for kind in KINDS]
        instance = msgspec.json.encode(scenario.instance).decode()
        self._middle = f',"source":"simulated","instance":{instance},"seq":'
        self._kinds: list[int] = []
        self._stamps: list[int] = []
        self._lines: list[str] = []

    def __len__(self) -> int:
        """Events that wait to be taken."""
        return len(self._lines)

    @property
    def over(self) -> bool:
        """Whether the span has passed: what is written now would lie after it."""
        return self.stamp >= self.end

    def tick(self, time: float) -> int:
        """Time goes on to ``time``, in seconds from the start of the scenario.

        Where the scenario sets a rate, the stamp follows the number of events instead.
        """
        if self._step is None:
            self.stamp = self._start + int(time * SECOND)
        else:
            self.stamp = self._start + int(self.seq * self._step)
        return self.stamp

    def write(self, kind: int, data: str) -> None:
        """Adds an event; ``data`` holds the members of its data object as JSON."""
        self.seq = seq = self.seq + 1
        stamp = self.stamp
        self._kinds.append(kind)
        self._stamps.append(stamp)
        self._lines.append(f'{self._heads[kind]}{stamp}{self._middle}{seq},"data":{{{data}}}}}')

    def take(self) -> Batch:
        """Hands over what was written since the last time."""
        batch = Batch(
            bytes(self._kinds),
            np.array(self._stamps, dtype=np.int64),
            "\n".join(self._lines).encode(),
        )
        self._kinds, self._stamps, self._lines = [], [], []
        return batch
