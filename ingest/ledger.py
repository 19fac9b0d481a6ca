"""The share ledger: what each stage did, by engine instance and hour.

The receiver says what it read and dropped, in small reports that travel in the
batches themselves, so that they are stored exactly as surely as the events. The
writer counts what it read from Redis, in the transaction of the rows. What is
missing follows from the sequence numbers; what is missing and was not reported as
dropped is an unexplained loss.
"""

from collections import Counter
from typing import Final

import msgspec

HOUR: Final = 3_600_000_000  # microseconds

Key = tuple[str, int]  # instance, start of the hour in microseconds


class ReportLine(msgspec.Struct, array_like=True, gc=False):
    """What a receiver did with events of one instance and hour, since its last report."""

    instance: str
    hour: int  # microseconds
    received: int
    dropped: dict[str, int]  # "stage/reason" → events


class Tally:
    """A receiver's counts since its last report."""

    def __init__(self) -> None:
        self._received: Counter[Key] = Counter()
        self._dropped: dict[Key, Counter[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._received or self._dropped)

    def received(self, instance: str, timestamp: int) -> None:
        """One event was read from the socket."""
        self._received[instance, timestamp - timestamp % HOUR] += 1

    def dropped(self, keys: Counter[Key], stage: str, reason: str) -> None:
        """Events are lost."""
        for key, count in keys.items():
            self._dropped.setdefault(key, Counter())[f"{stage}/{reason}"] += count

    def take(self) -> bytes:
        """Everything counted since the last call, as the JSON of a report."""
        lines = [
            ReportLine(*key, self._received[key], dict(self._dropped.get(key, {})))
            for key in sorted(self._received.keys() | self._dropped.keys())
        ]
        self._received.clear()
        self._dropped.clear()
        return msgspec.json.encode(lines)

    def give_back(self, report: bytes) -> None:
        """A report that could not be handed on counts again."""
        for line in parse_report(report):
            key = (line.instance, line.hour)
            if line.received:
                self._received[key] += line.received
            if line.dropped:
                self._dropped.setdefault(key, Counter()).update(line.dropped)


def parse_report(raw: bytes) -> list[ReportLine]:
    """Reads a report.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(raw, type=list[ReportLine])


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
        self.dropped: Counter[tuple[str, int, str]] = Counter()

    def line(self, instance: str, micros: int, seq: int) -> Line:
        """The line of an event, stretched to hold its number."""
        key = (instance, micros - micros % HOUR)
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(seq, seq)
        elif seq > line.last_seq:
            line.last_seq = seq
        elif seq < line.first_seq:
            line.first_seq = seq
        return line

    def report(self, lines: list[ReportLine]) -> None:
        """Adds what a receiver says."""
        for line in lines:
            if line.received:
                self.received[line.instance, line.hour] += line.received
            for cause, count in line.dropped.items():
                self.dropped[line.instance, line.hour, cause] += count

    def instances(self) -> set[str]:
        """Every instance that the ledger's rows name."""
        names = {instance for instance, _ in (*self.lines, *self.received)}
        return names | {instance for instance, _, _ in self.dropped}
