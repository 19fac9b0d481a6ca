"""The share ledger: what each stage did, by engine boot and hour.

The receiver says what it read and dropped, in small reports that travel in the
batches themselves, so that they are stored exactly as surely as the events. The
writer counts what it read from Redis, in the transaction of the rows. What is
missing follows from the sequence numbers; what is missing and was not reported as
dropped is an unexplained loss.
"""

import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, Literal, Protocol

import msgspec
import structlog

from ingest.notebook import Notebook
from tbg_core.boots import Status
from tbg_core.entry import LATEST
from tbg_core.events import EARLIEST, MAX_INSTANCE, SEQ_MAX
from tbg_core.periods import HOUR

MOST_KEPT: Final = 100_000  # lines, and ranges of numbers, that wait to be reported
# Reports that are remembered once they are handed on, for so many seconds and bytes.
REPEATED_SECONDS: Final = 120.0
REPEATED_BYTES: Final = 2**20

_ID: Final = re.compile(r"[!-.0-~]{1,100}/[1-9][0-9]{0,15}")

Key = tuple[str, int]  # instance, start of the hour in microseconds
Count = Literal["committed", "dead_lettered", "duplicates"]
Skew = tuple[int, int]  # microseconds ahead of the time of receipt: lowest, highest


class Numbered(Protocol):
    """What an engine may have numbered."""

    instance: str | None
    seq: int | None
    micros: int


Spans = list[tuple[int, int]]  # half-open ranges of sequence numbers


log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.counts")


class Report(msgspec.Struct, frozen=True):
    """What a receiver did since its last report.

    Attributes:
        received: instance, hour in microseconds, and events read from the socket.
        dropped: instance, "stage/reason", and the numbers that were lost.
        duplicates: instance, hour, and events that Redis had already.
        skews: instance, hour, and by how many microseconds the events' own time was ahead of
            this machine's when they came: the lowest and the highest of some samples.
        id: the process that made it, a slash, and which of its reports this is, from 1: so
            that a report that is read again counts once. Receivers before this version gave none.
        read: instance, hour, and the highest number read from the socket.
        statuses: what vouches for engine boots.
    """

    received: list[tuple[str, int, int]]
    dropped: list[tuple[str, str, Spans]]
    duplicates: list[tuple[str, int, int]] = []
    skews: list[tuple[str, int, int, int]] = []
    id: str = ""
    read: list[tuple[str, int, int]] = []
    statuses: list[Status] = []


class Numbers:
    """A set of sequence numbers, kept as ranges: drops come in long runs."""

    def __init__(self) -> None:
        self._spans: Spans = []

    def __len__(self) -> int:
        return len(self._spans)

    def extends(self, start: int) -> bool:
        """Whether a range from ``start`` would continue the last one."""
        return bool(self._spans) and self._spans[-1][0] <= start <= self._spans[-1][1]

    def add(self, start: int, end: int) -> None:
        """Adds the numbers from ``start`` up to but without ``end``."""
        if self.extends(start):
            first, last = self._spans[-1]
            self._spans[-1] = first, max(last, end)
        else:
            self._spans.append((start, end))

    def united(self) -> Spans:
        """The ranges in order, none touching another."""
        united: Spans = []
        for start, end in sorted(self._spans):
            if united and start <= united[-1][1]:
                united[-1] = united[-1][0], max(united[-1][1], end)
            else:
                united.append((start, end))
        self._spans = united
        return united


class Tally:
    """A receiver's counts since its last report.

    While nothing can be reported it does not grow without end: past
    :data:`MOST_KEPT` lines and ranges what is new is not remembered, and the ledger
    calls it unexplained.

    Losses, and what vouches for numbers, survive the process where there is a notebook:
    :meth:`keep` writes them, until the report that names them is handed on. They are sets
    and highest numbers, so that reporting one twice does no harm: what was handed on lately is
    reported again when Redis may have lost it (:meth:`repeat`).

    Args:
        notebook: holds what a process before this one could not report.
    """

    def __init__(self, notebook: Notebook | None = None) -> None:
        self._process = f"{time.time_ns() // 1000}-{os.getpid()}"
        self._reports = 0
        self._notebook = notebook
        self._fits = True
        self._taken: list[bytes] = []  # reports that may not be handed on yet
        self._recent: deque[tuple[float, bytes]] = deque()  # when they were handed on
        self._read: dict[Key, int] = {}
        self._statuses: dict[str, Status] = {}
        self._received: Counter[Key] = Counter()
        self._duplicates: Counter[Key] = Counter()
        self._skews: dict[Key, Skew] = {}
        self._dropped: dict[tuple[str, str], Numbers] = {}
        self._ranges = 0
        self._full = False
        # A run of events of one instance and hour, not yet among the others: nearly
        # every event continues the last range.
        self._run = 0
        self._instance = ""
        self._hour = 0
        self._highest = 0
        if notebook is not None and notebook.text:
            self._recall(notebook.text)

    def __bool__(self) -> bool:
        return bool(
            self._run
            or self._received
            or self._read
            or self._dropped
            or self._duplicates
            or self._statuses
        )

    @property
    def settled(self) -> bool:
        """Whether all that vouches for an engine is reported and handed on."""
        return not (self._statuses or self._taken)

    def received(self, instance: str, timestamp: int, seq: int = 0) -> None:
        """One event was read from the socket."""
        if instance != self._instance or not 0 <= timestamp - self._hour < HOUR:
            self._end_run()
            self._instance, self._hour = instance, timestamp - timestamp % HOUR
            # One sample of a run shows a wrong clock.
            ahead = timestamp - time.time_ns() // 1000
            _widen(self._skews, (instance, self._hour), (ahead, ahead))
        self._run += 1
        if seq > self._highest:
            self._highest = seq

    def _end_run(self) -> None:
        if self._run:
            _add(self._received, (self._instance, self._hour), self._run)
            if self._highest:
                raise_to(self._read, (self._instance, self._hour), self._highest)
            self._run = self._highest = 0

    def status(self, status: Status) -> None:
        """An engine boot was vouched for."""
        if status.instance in self._statuses or len(self._statuses) < MOST_KEPT:
            weigh(self._statuses, status)

    def duplicate(self, instance: str, timestamp: int) -> None:
        """One event was in Redis already, and was left out."""
        _add(self._duplicates, (instance, timestamp - timestamp % HOUR), 1)

    def dropped(self, instance: str, seq: int, stage: str, reason: str) -> None:
        """One event is lost."""
        self._add_dropped((instance, f"{stage}/{reason}"), seq, seq + 1)

    def _add_dropped(self, key: tuple[str, str], start: int, end: int) -> None:
        numbers = self._dropped.get(key)
        if numbers is None or not numbers.extends(start):
            if self._ranges >= MOST_KEPT and not self._full:
                self._ranges = sum(len(one.united()) for one in self._dropped.values())
                # Uniting again and again for a few would take all the time there is.
                self._full = self._ranges > MOST_KEPT // 2
                if self._full:
                    log.error("too many ranges of dropped events: the ledger will not know more")
            if self._full:
                return
            self._ranges += 1
            numbers = self._dropped.setdefault(key, Numbers())
        numbers.add(start, end)

    def _report(self, name: str) -> bytes:
        self._end_run()
        return msgspec.json.encode(
            Report(
                [(*key, count) for key, count in sorted(self._received.items())],
                [(*key, numbers.united()) for key, numbers in sorted(self._dropped.items())],
                [(*key, count) for key, count in sorted(self._duplicates.items())],
                [(*key, *skew) for key, skew in sorted(self._skews.items())],
                name,
                [(*key, highest) for key, highest in sorted(self._read.items())],
                [status for _, status in sorted(self._statuses.items())],
            )
        )

    def take(self) -> bytes:
        """Everything counted since the last call, as the JSON of a report.

        The caller then says what became of it: :meth:`handed_on` or :meth:`give_back`.
        """
        self._reports += 1
        report = self._report(f"{self._process}/{self._reports}")
        self._taken.append(report)
        self._received.clear()
        self._read.clear()
        self._statuses.clear()
        self._duplicates.clear()
        self._skews.clear()
        self._instance = ""  # the next run has a sample of its own
        self._dropped.clear()
        self._ranges, self._full = 0, False
        return report

    def handed_on(self, reports: Iterable[bytes]) -> None:
        """These reports are in Redis, or wait on disk."""
        for report in reports:
            if report in self._taken:
                self._taken.remove(report)
                self._remember(report)
                if self._notebook is not None and self._notebook.text:
                    self.keep()

    def _remember(self, report: bytes) -> None:
        now = time.monotonic()
        self._recent.append((now, report))
        size = sum(len(raw) for _, raw in self._recent)
        while self._recent and (
            size > REPEATED_BYTES or self._recent[0][0] < now - REPEATED_SECONDS
        ):
            size -= len(self._recent.popleft()[1])

    def repeat(self) -> None:
        """What was said lately of losses and of ends is said again: Redis may have lost it."""
        while self._recent:
            self._give_back_sets(parse_report(self._recent.popleft()[1]))

    def keep(self) -> None:
        """Makes the losses that were not handed on survive this process."""
        if self._notebook is None:
            return
        if left := self._notebook.reopen():
            self._recall(left)
        waiting = [*self._taken, self._report("")] if self else self._taken
        text = b"[" + b",".join(waiting) + b"]" if waiting else b""
        fits = self._notebook.write(text)
        if self._fits and not fits:
            log.error("too many ranges of dropped events: a kill would forget the newest")
        self._fits = fits

    def _recall(self, text: bytes) -> None:
        try:
            reports = msgspec.json.decode(text, type=list[msgspec.Raw])
            for raw in reports:
                self._give_back_sets(parse_report(bytes(raw)))
        except ValueError as error:
            log.error("the kept counts of lost events cannot be read", error=str(error))

    def give_back(self, raw: bytes) -> None:
        """A report that could not be handed on counts again."""
        if raw in self._taken:
            self._taken.remove(raw)
        report = parse_report(raw)
        for instance, hour, count in report.received:
            _add(self._received, (instance, hour), count)
        for instance, hour, count in report.duplicates:
            _add(self._duplicates, (instance, hour), count)
        for instance, hour, lowest, highest in report.skews:
            _widen(self._skews, (instance, hour), (lowest, highest))
        self._give_back_sets(report)

    def _give_back_sets(self, report: Report) -> None:
        """What counts once however often it is reported."""
        for instance, cause, lost in report.dropped:
            for start, end in lost:
                self._add_dropped((instance, cause), start, end)
        for instance, hour, highest in report.read:
            raise_to(self._read, (instance, hour), highest)
        for status in report.statuses:
            self.status(status)


def _add(counts: Counter[Key], key: Key, count: int) -> None:
    if len(counts) < MOST_KEPT or key in counts:
        counts[key] += count


def _widen(skews: dict[Key, Skew], key: Key, skew: Skew) -> None:
    known = skews.get(key)
    if known is not None:
        skews[key] = min(known[0], skew[0]), max(known[1], skew[1])
    elif len(skews) < MOST_KEPT:
        skews[key] = skew


def raise_to(highest: dict[Key, int], key: Key, seq: int) -> None:
    """Keeps the highest number of each."""
    if key in highest or len(highest) < MOST_KEPT:
        highest[key] = max(highest.get(key, 0), seq)


def weigh(statuses: dict[str, Status], status: Status) -> None:
    """Keeps the statement of each boot that counts, the later one of equals."""
    known = statuses.get(status.instance)
    if known is None or status.weight >= known.weight:
        statuses[status.instance] = status
    elif status.state == "crashed" and known.state == "running":
        # What the crash left is behind what was said before it.
        statuses[status.instance] = msgspec.structs.replace(known, state="crashed")


def parse_report(raw: bytes) -> Report:
    """Reads a report.

    Raises:
        ValueError: if it is not a report.
    """
    report = msgspec.json.decode(raw, type=Report)
    names = {
        *(name for name, *_ in report.received),
        *(name for name, *_ in report.dropped),
        *(name for name, *_ in report.duplicates),
        *(name for name, *_ in report.skews),
        *(name for name, *_ in report.read),
        *(status.instance for status in report.statuses),
    }
    if any(len(name) > MAX_INSTANCE for name in names):
        raise ValueError("the name of an instance is too long")
    if report.id and not _ID.fullmatch(report.id):
        raise ValueError("the id is not a name and a number")
    for _, _, lost in report.dropped:
        if any(not 0 < start < end <= SEQ_MAX + 1 for start, end in lost):
            raise ValueError("a range of numbers is empty or out of bounds")
    if any(not 0 <= seq <= SEQ_MAX for *_, seq in report.read):
        raise ValueError("a highest number is out of bounds")
    for status in report.statuses:
        if not 0 <= status.last_seq <= SEQ_MAX or not EARLIEST <= status.micros <= LATEST:
            raise ValueError("the status of an engine is out of bounds")
        if not 0 < len(status.source) <= 16 or not 0 <= (status.unsent or 0) <= SEQ_MAX:
            raise ValueError("the status of an engine is out of bounds")
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
        self.left_out: Counter[Key] = Counter()  # duplicates that never reached Redis
        self.skews: dict[Key, Skew] = {}
        self.dropped: list[tuple[str, str, Spans]] = []
        self.read: dict[Key, int] = {}
        self.statuses: dict[str, Status] = {}

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
        for instance, hour, count in report.duplicates:
            self.left_out[instance, hour] += count
        for instance, hour, lowest, highest in report.skews:
            _widen(self.skews, (instance, hour), (lowest, highest))
        self.dropped += report.dropped
        for instance, hour, highest in report.read:
            raise_to(self.read, (instance, hour), highest)
        for status in report.statuses:
            weigh(self.statuses, status)

    def instances(self) -> set[str]:
        """Every instance that the ledger's rows name."""
        names = {
            instance
            for counted in (self.lines, self.received, self.left_out, self.skews, self.read)
            for instance, _ in counted
        }
        return names | self.statuses.keys() | {instance for instance, _, _ in self.dropped}
