"""Variable share difficulty: about one share every 3.33 seconds from every miner.

The rule is ckpool's (``add_submit`` in its stratifier.c). The accepted difficulty per second is
averaged with a decay of 5 minutes, and divided by the part of such an average that a miner of this
age can have filled. Nothing changes until 72 shares or 240 seconds have passed since the last
change, nor while the rate lies between 0.15 and 0.4 shares per second. Otherwise the difficulty
becomes the one at which the miner would send 0.3 per second.

Two things are ours. Difficulties below 1 are fractions; ckpool's are integers of at least 1. And a
miner that sends nothing does not stay at a difficulty that it may never reach: :meth:`quiet`. It
is never taken below the minimum that it asked for: a rental whose order pauses is silent too, and
leaves a pool that goes below its minimum. Nor is a miner that has worked at 1 or more taken below 1.

Pure: time comes in as seconds of any monotonic clock.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from tbg_core.events import MAX_DIFFICULTY

TARGET_INTERVAL: Final = 3.33  # seconds per share
LOW_RATE: Final = 0.15  # shares per second; slower, and the difficulty falls
HIGH_RATE: Final = 0.4  # shares per second; faster, and it rises
MIN_SHARES: Final = 72  # accepted shares between two changes
MIN_SECONDS: Final = 240.0  # or seconds, if they pass first
WINDOW: Final = 300.0  # seconds of the average


@dataclass(frozen=True, slots=True)
class Bounds:
    """The lowest and highest difficulty to assign; ``maximum`` 0 sets no limit."""

    minimum: float
    maximum: float = 0.0

    def clamp(self, difficulty: float) -> float:
        """The difficulty to assign instead of ``difficulty``.

        It lies within the bounds; the upper one wins if they cross. From 1 up it is a whole
        number, rounded down: firmware drops the fraction, and would send shares that miss it.
        """
        difficulty = min(max(difficulty, self.minimum), self.maximum or MAX_DIFFICULTY)
        return difficulty if difficulty < 1 else float(math.floor(difficulty))


@dataclass(slots=True)
class Vardiff:
    """The share difficulty of one connection.

    ``floor`` is a minimum that the miner asked for itself (mining.suggest_difficulty).
    """

    difficulty: float
    started: float
    floor: float = 0.0
    _hardest: float = 0.0  # difficulty of the hardest accepted share's assignment
    _rate: float = 0.0  # decaying average, difficulty per second
    _updated: float = field(init=False)
    _changed: float = field(init=False)
    _first: float | None = None  # when the first share came
    _shares: int = 0  # since the last change

    def __post_init__(self) -> None:
        self._updated = self._changed = self.started

    def accepted(self, now: float, worth: float, bounds: Bounds) -> float | None:
        """Counts an accepted share; returns the new difficulty if it should change.

        ``worth`` is the difficulty that the share was held to. The caller applies the change
        with :meth:`change`.
        """
        self._hardest = max(self._hardest, worth)
        if self._first is None:
            # A miner's clock starts with its first share, which does not show its speed yet.
            self._first = self._updated = self._changed = now
            return None
        self._decay(now, worth)
        self._shares += 1
        if self._shares < MIN_SHARES and now - self._changed < MIN_SECONDS:
            return None
        age = now - self._first
        if age <= 0:
            return None
        rate = self._rate / -math.expm1(-age / WINDOW)
        if LOW_RATE <= rate / self.difficulty <= HIGH_RATE:
            return None
        return self._changed_to(rate * TARGET_INTERVAL, bounds)

    def quiet(self, now: float, bounds: Bounds) -> float | None:
        """The lower difficulty for a miner that sent nothing for 240 seconds, else None.

        A miner that is silent for T seconds at difficulty d does less than about d/T per second.
        """
        since = now - max(self._changed, self._updated)
        if since < MIN_SECONDS:
            return None
        return self._changed_to(self.difficulty / since * TARGET_INTERVAL, bounds)

    def change(self, now: float, difficulty: float) -> None:
        """Sets the difficulty; the count towards the next change starts again."""
        self.difficulty = difficulty
        self._changed = now
        self._shares = 0

    def _changed_to(self, wanted: float, bounds: Bounds) -> float | None:
        lowest = max(self.floor, 1.0 if self._hardest >= 1 else 0.0)
        wanted = bounds.clamp(max(wanted, lowest))
        return None if wanted == self.difficulty else wanted

    def _decay(self, now: float, worth: float) -> None:
        elapsed = now - self._updated
        self._updated = max(now, self._updated)
        self._rate = decayed(self._rate, worth, elapsed, WINDOW)


def decayed(rate: float, amount: float, elapsed: float, window: float) -> float:
    """A decaying average, ``elapsed`` seconds after its last value, with ``amount`` added now.

    A first-order low-pass filter with time constant ``window``: the old value shrinks by
    exp(-elapsed/window), and the amount counts as spread over one window. It is linear: a user's
    average is the sum of its workers'.
    """
    return rate * math.exp(-max(elapsed, 0.0) / window) + amount / window
