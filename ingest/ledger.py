"""The share ledger: what each stage did, by engine instance and hour.

The receiver says what it read and dropped, in small reports that travel in the
batches themselves, so that they are stored exactly as surely as the events. The
writer counts what it read from Redis, in the transaction of the rows. What is
missing follows from the sequence numbers; what is missing and was not reported as
dropped is an unexplained loss.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, Protocol

import msgspec

from ingest.events import INT64_MAX

HOUR: Final = 3_600_000_000  # microseconds

Key = tuple[str, int]  # instance, start of the hour in microseconds
Count = Literal["committed", "dead_lettered", "duplicates"]


class Numbered(Protocol):
    """What an engine may have numbered."""

    instance: str | None
    seq: int | None
    micros: int


Spans = list[tuple[int, int]]  # half-open ranges of sequence numbers


class Report(msgspec.Struct, frozen=True):
    """What a receiver did since its last report.

    Attributes:
        received: instance, hour in microseconds, and events read from the socket.
        dropped: instance, "stage/reason", and the numbers that were lost.
    """

    received: list[tuple[str, int, int]]
    dropped: list[tuple[str, str, Spans]]


class Tally:
    """A receiver's counts since its last report."""

    def __init__(self) -> None:
        self._received: Counter[Key] = Counter()
        self._dropped: dict[tuple[str, str], set[int]] = {}
        # A run of events of one instance and hour, not yet among the others: nearly
        # every event goes on where the last one was.
        self._run = 0
        self._instance = ""
        self._hour = 0

    def __bool__(self) -> bool:
        return bool(self._run or self._received or self._dropped)

    def received(self, instance: str, timestamp: int) -> None:
        """One event was read from the socket."""
        if instance != self._instance or not 0 <= timestamp - self._hour < HOUR:
            self._end_run()
            self._instance, self._hour = instance, timestamp - timestamp % HOUR
        self._run += 1

    def _end_run(self) -> None:
        if self._run:
            self._received[self._instance, self._hour] += self._run
            self._run = 0

    def dropped(self, instance: str, seq: int, stage: str, reason: str) -> None:
        """One event is lost."""
        self._dropped.setdefault((instance, f"{stage}/{reason}"), set()).add(seq)

    def take(self) -> bytes:
        """Everything counted since the last call, as the JSON of a report."""
        self._end_run()
        report = Report(
            [(*key, count) for key, count in sorted(self._received.items())],
            [(*key, spans(numbers)) for key, numbers in sorted(self._dropped.items())],
        )
        self._received.clear()
        self._dropped.clear()
        return msgspec.json.encode(report)

    def give_back(self, raw: bytes) -> None:
        """A report that could not be handed on counts again."""
        report = parse_report(raw)
        for instance, hour, count in report.received:
            self._received[instance, hour] += count
        for instance, cause, lost in report.dropped:
            numbers = self._dropped.setdefault((instance, cause), set())
            for start, end in lost:
                numbers.update(range(start, end))


def spans(numbers: set[int]) -> Spans:
    """The same numbers as half-open ranges, in order."""
    found: Spans = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def parse_report(raw: bytes) -> Report:
    """Reads a report.

    Raises:
        ValueError: it is none.
    """
    report = msgspec.json.decode(raw, type=Report)
    for _, _, lost in report.dropped:
        if any(not 0 < start < end <= INT64_MAX for start, end in lost):
            raise ValueError("a range of numbers is empty or out of bounds")
    return report


class Line(msgspec.Struct, gc=False):
    """What one batch adds to an instance's hour."""

    first_seq: int
    last_seq: int
    committed: int = 0
    dead_lettered: int = 0
    duplicates: int = 0


class Sums:
    """What one batch adds to the ledger."""

    def __init__(self) -> None:
        self.lines: dict[Key, Line] = {}
        self.received: Counter[Key] = Counter()
        self.dropped: list[tuple[str, str, Spans]] = []

    def add(self, counter: Count, items: Iterable[Numbered]) -> None:
        """Counts events in the hours of their times, stretched to hold their numbers."""
        instance, hour = "", 0
        numbers: list[int] = []
        for item in items:
            if item.instance is None or item.seq is None:
                continue
            # Nearly every event goes on in the hour of the last one.
            if item.instance != instance or not 0 <= item.micros - hour < HOUR:
                self._count(counter, instance, hour, numbers)
                instance, hour = item.instance, item.micros - item.micros % HOUR
                numbers = []
            numbers.append(item.seq)
        self._count(counter, instance, hour, numbers)

    def _count(self, counter: Count, instance: str, hour: int, numbers: list[int]) -> None:
        if not numbers:
            return
        first, last = min(numbers), max(numbers)
        line = self.lines.get((instance, hour))
        if line is None:
            line = self.lines[instance, hour] = Line(first, last)
        line.first_seq = min(line.first_seq, first)
        line.last_seq = max(line.last_seq, last)
        setattr(line, counter, getattr(line, counter) + len(numbers))

    def report(self, report: Report) -> None:
        """Adds what a receiver says."""
        for instance, hour, count in report.received:
            self.received[instance, hour] += count
        self.dropped += report.dropped

    def instances(self) -> set[str]:
        """Every instance that the ledger's rows name."""
        names = {instance for instance, _ in (*self.lines, *self.received)}
        return names | {instance for instance, _, _ in self.dropped}
