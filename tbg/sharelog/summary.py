"""What an import did, for people and for scripts."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tbg.terminal import Terminal
from tbg_core.wording import counted, printable

MOST_NAMES: Final = 50  # unknown fields, reasons and files that are told apart; the rest is "other"


def _count(counter: Counter[str], name: str, count: int = 1) -> None:
    """Counts under a name from a log; the table's size is bounded."""
    counter[name if name in counter or len(counter) < MOST_NAMES else "other"] += count


@dataclass
class Summary:
    """Counts of lines, by what became of each, and of events."""

    files: int = 0
    lines: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    before_since: int = 0
    """Shares that came before ``--since``: read for the bests, not sent."""
    copies: int = 0
    """Shares that were read from another copy of the same log before, in this run."""
    skipped: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    """Shares on a line with torn bytes or with another share; each counts as a line."""
    unknown_fields: Counter[str] = field(default_factory=Counter)
    bests: Counter[str] = field(default_factory=Counter)
    instances: int = 0
    resent: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def shares(self) -> int:
        """Shares sent."""
        return self.accepted + self.rejected.total()

    @property
    def unsent(self) -> int:
        """Lines that were read but not sent because of a shutdown."""
        return self.lines - self.shares - self.before_since - self.copies - self.skipped.total()

    @property
    def events(self) -> int:
        """Events sent, each once."""
        return self.shares + self.bests.total()

    def skip(self, reason: str) -> None:
        """Counts a line that is not a share."""
        self.skipped[reason] += 1

    def see_unknown(self, names: frozenset[str]) -> None:
        """Counts fields that ckpool's share log does not have."""
        for name in names:
            _count(self.unknown_fields, name[:64])

    def send(self, valid: bool, reason: str | None) -> None:
        """Counts a share that was sent."""
        if valid:
            self.accepted += 1
        else:
            _count(self.rejected, reason or "unknown")

    def damage(self, path: Path, why: str) -> None:
        """Notes a file that could not be read, or not to its end."""
        if len(self.unreadable) < MOST_NAMES:
            self.unreadable.setdefault(str(path), why)

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "files": self.files,
            "lines": self.lines,
            "accepted": self.accepted,
            "rejected": self.rejected.total(),
            "rejected_by_reason": dict(self.rejected),
            "bests": dict(self.bests),
            "before_since": self.before_since,
            "copies": self.copies,
            "skipped": self.skipped.total(),
            "skipped_by_reason": dict(self.skipped),
            "recovered": self.recovered,
            "unsent": self.unsent,
            "unknown_fields": dict(self.unknown_fields),
            "unreadable": self.unreadable,
            "events": self.events,
            "instances": self.instances,
            "resent": self.resent,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
        }

    def show(self, console: Terminal) -> None:
        """Prints it for a person."""

        def say(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        rate = self.lines / self.seconds if self.seconds else 0.0
        say(
            f"{counted(self.lines, 'line')} of {counted(self.files, 'file')} in {self.seconds:.1f} s"
            f" ({rate:,.0f} lines/s)"
        )
        say(f"  {counted(self.accepted, 'accepted share')} sent")
        say(f"  {counted(self.rejected.total(), 'rejected share')} sent{_by(self.rejected)}")
        say(f"  {counted(self.before_since, 'share')} before --since, not sent")
        say(f"  {counted(self.copies, 'share')} in further copies of the same log, not sent")
        say(
            f"  {counted(self.skipped.total(), 'line that is no share', 'lines that are not shares')}{_by(self.skipped)}"
        )
        if self.recovered:
            say(
                f"{counted(self.recovered, 'share')} found on lines with torn bytes or another share"
            )
        say(f"{counted(self.bests.total(), 'best')} sent{_by(self.bests)}")
        say(f"{counted(self.events, 'event')} under {counted(self.instances, 'instance')}")
        if self.unknown_fields:
            say(f"unknown fields, left out{_by(self.unknown_fields)}")
        if self.resent:
            say(f"{counted(self.resent, 'event')} sent once more, to a receiver that took over")
        for path, why in self.unreadable.items():
            say(f"not read, or not to its end: {path!r}: {why}")
        if self.unsent:
            say(f"  {self.unsent:,} lines read, not sent any more")
        if self.interrupted:
            say("interrupted: run the same command again, and what is there already stays once")


def _by(counter: Counter[str]) -> str:
    if not counter:
        return ""
    # Names come from logs: their control characters must not reach a terminal.
    return ": " + ", ".join(f"{printable(name)} {count:,}" for name, count in counter.most_common())
