"""What a run of the fault suite says at its end."""

from collections import defaultdict
from dataclasses import dataclass, field
from io import StringIO

from rich.console import Console
from rich.table import Table

from tests.faults.stack import Account


@dataclass
class Line:
    """Faults of one kind."""

    faults: int = 0
    events: int = 0
    committed: int = 0
    dead_lettered: int = 0
    recognised: int = 0
    doubled: int = 0
    dropped: int = 0
    unexplained: int = 0
    recoveries: list[float] = field(default_factory=list)

    def add(self, sums: Account, recovery: float) -> None:
        """Adds one fault."""
        self.faults += 1
        self.events += sums.emitted
        self.committed += sums.committed
        self.dead_lettered += sums.dead_lettered
        self.recognised += sums.duplicates
        self.doubled += sums.doubled
        self.dropped += sums.dropped
        self.unexplained += sums.unexplained
        self.recoveries.append(recovery)


class Summary:
    """What every test of a run told."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = defaultdict(Line)
        self.notes: list[str] = []

    def fault(self, kind: str, sums: dict[str, int], recovery: float) -> None:
        """Takes one fault in."""
        self.lines[kind].add(Account(**sums), recovery)


def render(summary: Summary) -> str:
    """The table as text."""
    table = Table(title="faults injected, and what became of the events")
    table.add_column("fault")
    for name in (
        "faults", "events", "committed", "refused", "resent,\nrecognised", "stored\ntwice",
        "dropped,\ncounted", "lost with\na killed\nreceiver", "recovery s\nmedian", "worst",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    total = Line()
    for name, line in sorted(summary.lines.items()):
        _row(table, name, line)
        for part in ("faults", "events", "committed", "dead_lettered", "recognised", "doubled",
                     "dropped", "unexplained"):  # fmt: skip
            setattr(total, part, getattr(total, part) + getattr(line, part))
        total.recoveries += line.recoveries
    table.add_section()
    _row(table, "all", total)
    text = StringIO()
    Console(file=text, width=150).print(table)
    return text.getvalue() + "\n".join(summary.notes)


def _row(table: Table, name: str, line: Line) -> None:
    ordered = sorted(line.recoveries)
    counts = (
        line.faults, line.events, line.committed, line.dead_lettered, line.recognised,
        line.doubled, line.dropped, line.unexplained,
    )  # fmt: skip
    table.add_row(
        name,
        *(f"{count:,}" for count in counts),
        f"{ordered[len(ordered) // 2]:.2f}",
        f"{ordered[-1]:.2f}",
    )
