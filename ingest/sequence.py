"""Which events of an engine boot were seen.

An instance numbers its events from 1 without a hole, dropped ones too, so a
hole is a loss, or an event that is still on its way. ``Seen`` remembers the
highest number and the holes below it; that is enough to know a new event, a
late one and a resent one apart. A broken engine can make any number of holes, so
only the newest are remembered: of a number before them ``Seen`` says that it does
not know, and the caller must ask the database.
"""

from bisect import bisect_right
from enum import Enum
from typing import Final

# Holes remembered of one instance, about a megabyte. Streams are read in the order of
# their entry ids, so that a hole is a loss: only a broken engine has so many.
MAX_HOLES: Final = 10_000


class Arrival(Enum):
    """What one sequence number means."""

    NEW = "new"  # above everything seen before
    LATE = "late"  # fills a hole
    DUPLICATE = "duplicate"  # was seen before
    UNKNOWN = "unknown"  # lies before the holes that are remembered: ask the database


class Seen:
    """The sequence numbers of one instance that were seen.

    Attributes:
        highest: the highest number seen, 0 before the first.
        gap_events: numbers skipped so far, those filled later included.
        floor: below it, unknown which numbers were seen; 0 if all is known.
        latest: the latest time of an event that was no duplicate, in microseconds; 0 if that
            is not known. Kept by the caller.
    """

    __slots__ = ("_ends", "_starts", "floor", "gap_events", "highest", "latest")

    def __init__(
        self,
        highest: int = 0,
        missing: list[tuple[int, int]] | None = None,
        floor: int = 0,
        latest: int = 0,
    ) -> None:
        """Starts from what was stored: ``missing`` holds half-open ranges in order."""
        self.highest = highest
        self.floor = floor
        self._starts = [start for start, _ in missing or []]
        self._ends = [end for _, end in missing or []]
        self.gap_events = 0
        self.latest = latest

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The holes below the highest number, half-open, in order."""
        return list(zip(self._starts, self._ends, strict=True))

    def copy(self) -> "Seen":
        """A copy to try a batch on; its counter starts at 0."""
        return Seen(self.highest, self.missing, self.floor, self.latest)

    def forget(self, most: int | None = None) -> None:
        """Keeps the newest ``most`` holes; what lies before them is unknown from now on.

        For the end of a batch: within one, nothing becomes unknown that the database was
        not asked about.
        """
        gone = len(self._starts) - (MAX_HOLES if most is None else most)
        if gone > 0:
            self.floor = self._ends[gone - 1]
            del self._starts[:gone], self._ends[:gone]

    def add(self, seq: int) -> Arrival:
        """Records one number and returns what it means."""
        highest = self.highest
        if seq == highest + 1:
            self.highest = seq
            return Arrival.NEW
        if seq > highest:
            self._starts.append(highest + 1)
            self._ends.append(seq)
            self.gap_events += seq - highest - 1
            self.highest = seq
            return Arrival.NEW
        if seq < self.floor:
            return Arrival.UNKNOWN
        hole = bisect_right(self._starts, seq) - 1
        if hole < 0 or seq >= self._ends[hole]:
            return Arrival.DUPLICATE
        start, end = self._starts[hole], self._ends[hole]
        if start == seq and end == seq + 1:
            del self._starts[hole], self._ends[hole]
        elif start == seq:
            self._starts[hole] = seq + 1
        elif end == seq + 1:
            self._ends[hole] = seq
        else:
            self._ends[hole] = seq
            self._starts.insert(hole + 1, seq + 1)
            self._ends.insert(hole + 1, end)
        return Arrival.LATE
