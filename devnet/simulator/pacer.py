"""Waits for the moment of every event, as evenly as the machine allows."""

import time
from collections.abc import Callable
from typing import Final

from devnet.simulator.histogram import Histogram

_NAP: Final = 0.1  # seconds between two checks for a stop


class Pacer:
    """Waits for one moment after the other.

    It sleeps once for each moment that lies ahead, so a burst between two sleeps is what became
    due while the machine woke up: one event at rates below about 10,000 a second, a few at
    50,000. It never spins: the other processes need the processor. After a stall it lets
    overdue events through at once, and ``lateness`` shows it.

    Attributes:
        lateness: microseconds between an event's moment and the attempt to send it.
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
        """``start`` is a moment near now, in microseconds; ``clock`` counts nanoseconds.

        The system's clock is read once: a later correction of it has no effect.
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
        """Microseconds since the epoch."""
        return self._monotonic() // 1000 - self._origin + self._start

    def wait(self, due: int) -> bool:
        """Returns True at ``due``, or False as soon as a stop is requested."""
        ahead = due - self.now()
        if ahead > 0:
            if self._burst:
                self.bursts.add(self._burst)
                self._burst = 0
            while ahead > 0:
                if self._stopped():
                    return False
                self._sleep(min(ahead / 1e6, _NAP))
                ahead = due - self.now()
        self._burst += 1
        self.lateness.add(-ahead)
        return True
