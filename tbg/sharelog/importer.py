"""The import itself: logs in, datagrams out."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, time_ns
from typing import Final

from tbg.sharelog.bests import LogBests
from tbg.sharelog.delivery import Delivery
from tbg.sharelog.event import SOURCE, best_events, share_event
from tbg.sharelog.folder import Folder
from tbg.sharelog.log import Log, NumberedShare
from tbg.sharelog.order import in_order
from tbg.sharelog.summary import Summary
from tbg_core.boots import HEARTBEAT, Status, datagram
from tbg_core.events import EngineState
from tbg_core.wording import counted

# Logs kept open while following, those that grew last. ckpool begins one every 30 seconds
# and appends to the last few.
MOST_OPEN: Final = 400
_EVERY: Final = 1000  # shares between two looks at the clock and the writer


class Importer:
    """Sends the shares of logs, each once in a run.

    Args:
        folder: where the logs are.
        since: full hour, microseconds; earlier shares count for bests alone.
        delivery: takes the datagrams.
        pace: called now and then; may wait.
        summary: counts.
    """

    def __init__(
        self,
        folder: Folder,
        since: int,
        delivery: Delivery,
        pace: Callable[[], object],
        summary: Summary,
    ) -> None:
        self._folder = folder
        self._since = since
        self._delivery = delivery
        self._pace = pace
        self._summary = summary
        self._bests = LogBests()
        self._numbers: dict[str, int] = {}  # highest of each instance
        # Instances that were sent since the last beat, and of the beat before: highest number, and
        # when. Of all others it was said that they have ended.
        self._unsaid: dict[str, tuple[int, int]] = {}
        self._running: dict[str, tuple[int, int]] = {}
        self._said = monotonic()
        self._last: Status | None = None
        self._reading: set[Log] = set()
        self._kept: OrderedDict[Log, None] = OrderedDict()  # the one that grew last at the end
        self._done = 0
        self.size = 0
        """Bytes of the files found."""

    @property
    def position(self) -> int:
        """Bytes read."""
        return self._done + sum(log.position for log in (*self._reading, *self._kept))

    def run(self, *, follow: bool) -> None:
        """Sends what the logs hold now.

        Args:
            follow: keeps logs open for :meth:`look`.

        Raises:
            Stopped: if the end was asked for.
            OSError: if the socket is not ours to write to.
        """
        found: list[tuple[int, Path]] = []
        for path in self._folder.fresh():
            first = self._first(path)
            if first is not None:
                found.append((first, path))
                self._summary.files += 1
        found.sort()
        self._send(in_order(found, lambda path: self._read(path, follow=follow)))

    def look(self) -> None:
        """Sends what is new: from new logs, logs that grew and truncated logs.

        Raises:
            Stopped, OSError: as :meth:`run`.
        """
        for cut in [log for log in self._kept if log.is_cut()]:
            if cut.begins_as_before:
                # Other shares may come under the numbers of those that are cut off: they are sent,
                # and the writer decides.
                for instance in cut.instances:
                    self._numbers.pop(instance, None)
            self._close(cut)
            self._keep(self._open(cut.path))
        for path in self._folder.fresh():
            log = self._open(path)
            if log is None:
                continue
            renamed = next((one for one in self._kept if one.inode == log.inode), None)
            if renamed is None:
                self._summary.files += 1
                self._keep(log)
            else:
                renamed.path = path
                log.close()
        self._send(in_order([(0, log) for log in list(self._kept)], self._grown))
        self._trim()
        self._beat()

    def end(self) -> Status | None:
        """Vouches for the numbers that were sent: there are no more of them in these logs.

        No page does, as for other engines: importing again says so for what a kill left open.

        Returns:
            What was said last, behind all that was sent; None if nothing was.

        Raises:
            Stopped, OSError: as :meth:`run`.
        """
        self._vouch(self._unsaid, "ended")
        self._vouch(self._running, "ended")
        return self._last

    def _beat(self) -> None:
        """Says now and then what grows, and what grows no more: a run may take days.

        A log that goes on after all says so, with a higher number.
        """
        if monotonic() - self._said < HEARTBEAT:
            return
        self._said = monotonic()
        for instance in self._unsaid:
            self._running.pop(instance, None)
        self._vouch(self._running, "ended")
        self._running |= self._unsaid
        self._vouch(self._unsaid, "running")

    def _vouch(self, instances: dict[str, tuple[int, int]], state: EngineState) -> None:
        while instances:
            instance, (seq, micros) = next(reversed(instances.items()))
            # A share from the future is refused; what is said of its number is not.
            said = min(micros, time_ns() // 1000)
            self._last = Status(instance, SOURCE, said, seq, 0, state)
            self._delivery.send(datagram(self._last))
            del instances[instance]

    def close(self) -> None:
        """Closes what is open."""
        for log in (*self._reading, *self._kept):
            self._close(log)
        self._summary.resent = self._delivery.resent

    def _first(self, path: Path) -> int | None:
        """The time of a log's first share, 0 if it has none; None if it cannot be read."""
        with self._noting(path):
            log = Log(path, Summary())
            with contextlib.closing(log):
                self.size += path.stat().st_size
                first = next(log.shares(final=True), None)
                return 0 if first is None else first.share.micros
        return None

    def _open(self, path: Path) -> Log | None:
        with self._noting(path):
            return Log(path, self._summary)
        return None

    @contextlib.contextmanager
    def _noting(self, path: Path) -> Iterator[None]:
        """Notes a log that cannot be read, or not to its end."""
        try:
            yield
        except OSError as error:
            self._summary.damage(path, str(error))

    def _keep(self, log: Log | None) -> None:
        if log is not None:
            self._kept[log] = None

    def _trim(self) -> None:
        while len(self._kept) > MOST_OPEN:
            self._close(next(iter(self._kept)))

    def _close(self, log: Log) -> None:
        self._reading.discard(log)
        self._kept.pop(log, None)
        self._done += log.position
        log.close()

    def _read(self, path: Path, *, follow: bool) -> Iterator[NumberedShare]:
        log = self._open(path)
        if log is None:
            return
        self._reading.add(log)
        with self._noting(path):
            yield from log.shares(final=not follow)
        if follow:
            self._reading.discard(log)
            self._keep(log)
            self._trim()
        else:
            if log.lines and not log.count:
                self._summary.damage(
                    path, f"{counted(log.lines, 'line')}, and none of them is a share"
                )
            self._close(log)

    def _grown(self, log: Log) -> Iterator[NumberedShare]:
        grown = False
        with self._noting(log.path):
            for numbered in log.shares(final=False):
                grown = True
                yield numbered
        if grown:
            self._kept.move_to_end(log)

    def _send(self, shares: Iterator[NumberedShare]) -> None:
        for count, numbered in enumerate(shares, 1):
            self._take(numbered)
            if not count % _EVERY:
                self._pace()
                self._beat()

    def _take(self, numbered: NumberedShare) -> None:
        share, instance, seq = numbered
        summary = self._summary
        if seq <= self._numbers.get(instance, 0):
            summary.copies += 1
            return
        self._numbers[instance] = seq
        data = share.data
        valid = data["valid"]
        broken = self._bests.accept(share.micros, data["user"], data["share_diff"]) if valid else []
        if share.micros < self._since:
            summary.before_since += 1
            return
        self._delivery.send(share_event(share, instance, seq))
        self._note(instance, seq, share.micros)
        summary.send(valid, data["reject_reason"])
        summary.instances += seq == 1
        if broken:
            for best, event in zip(broken, best_events(share, instance, seq, broken), strict=True):
                self._delivery.send(event)
                summary.bests[best.period] += 1
            self._note(f"{instance}/{seq}", len(broken), share.micros)
            summary.instances += 1

    def _note(self, instance: str, seq: int, micros: int) -> None:
        self._unsaid[instance] = seq, micros
