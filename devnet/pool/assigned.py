"""The difficulty that one connection is held to: vardiff, wishes, and what was sent before.

Pure: time comes in as seconds of any monotonic clock.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from devnet.pool.vardiff import Bounds, Vardiff

CHANGES_KEPT: Final = 16  # difficulty changes within the life of one job


@dataclass(slots=True)
class AssignedDifficulty:
    """The assigned difficulty of one connection and how it changes."""

    vardiff: Vardiff
    # (serial of the newest work at that moment, difficulty before), oldest first
    _changes: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=CHANGES_KEPT))
    _wishes: dict[str, float] = field(default_factory=dict)  # the last one by method, newest last

    @property
    def now(self) -> float:
        """The difficulty that was sent to the miner last."""
        return self.vardiff.difficulty

    def required(self, serial: int) -> float:
        """The difficulty that a share of the work with this serial is held to.

        A miner that gets a new difficulty may keep the old one until its next job, or use the
        new one at once. For work that was handed out before the change, the lowest difficulty in
        force since then counts.
        """
        return min([self.now, *(old for newest, old in self._changes if serial <= newest)])

    def wish(self, method: str, wanted: float, bounds: Bounds) -> float | None:
        """Takes a miner's wish as a minimum; returns the new difficulty if it should change.

        Firmware repeats its wish to keep the connection alive: that changes nothing.
        """
        latest = next(reversed(self._wishes.values()), None)
        known = wanted in (self._wishes.pop(method, None), latest)
        self._wishes[method] = wanted
        if known:
            return None
        self.vardiff.floor = bounds.clamp(wanted)
        return None if self.vardiff.floor == self.now else self.vardiff.floor

    def change(self, now: float, new: float, serial: int) -> None:
        """Sets the difficulty, while the work with this serial is the newest."""
        self._changes.append((serial, self.now))
        self.vardiff.change(now, new)
