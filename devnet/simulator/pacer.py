"""Sends every event at the moment of its timestamp, as evenly as the machine allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from devnet.simulator.histogram import Histogram

_NAP: Final = 0.1  # seconds; how long a request to stop may have to wait


class Pacer:
    """Holds back a stream of moments until they come.

    It sleeps once for each moment that lies ahead, so what is sent between two sleeps is what
    became due while the machine woke up: one event at rates below about 10,000 a second, some
    at 50,000. It never spins: the other processes need the processor. After a stall it sends
    what is overdue at once and says so in ``lateness``.

    Attributes:
        lateness: microseconds between an event's timestamp and the attempt to send it.
        bursts: events sent between two sleeps.
    """

    def __init__(
        self,
        start: int,
        stopped: Callable[[], bool],
        *,
        clock: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``start`` is a timestamp, in microseconds, near now; ``clock`` counts nanoseconds.

        The system's clock is read once: a correction of it later moves nothing.
        """
        self._monotonic = time.monotonic_ns if clock is time.time_ns else clock
        self._origin = self._monotonic() // 1000 - (clock() // 1000 - start)
        self._start = start
        self._stopped = stopped
        self._sleep = sleep
        self.reset()

    def reset(self) -> None:
        """Forgets what was measured."""
        self._burst = 0
        self.lateness = Histogram(step=50, size=40_000)
        self.bursts = Histogram(step=1, size=10_000)

    def now(self) -> int:
        """This moment as a timestamp, in microseconds."""
        return self._monotonic() // 1000 - self._origin + self._start

    def wait(self, stamp: int) -> bool:
        """Returns at ``stamp``, or False as soon as a stop was asked for."""
        ahead = stamp - self.now()
        if ahead > 0:
            if self._burst:
                self.bursts.add(self._burst)
                self._burst = 0
            while ahead > 0:
                if self._stopped():
                    return False
                self._sleep(min(ahead / 1e6, _NAP))
                ahead = stamp - self.now()
        self._burst += 1
        self.lateness.add(-ahead)
        return True
