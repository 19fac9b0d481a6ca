"""The ledger's lines as tables in Markdown."""

from collections.abc import Sequence
from typing import Any, Final

from tbg_core.wording import printable

Rows = Sequence[dict[str, Any]]

# Columns of the ledger under the names of `tbg ledger`; what must be 0 comes first,
# where the narrowest window shows it.
COUNTS: Final = {
    "unexplained": "lost",
    "dropped": "dropped",
    "emitted": "emitted",
    "received": "received",
    "committed": "stored",
    "dead_lettered": "refused",
    "duplicates": "resent",
}
MOST_LINES: Final = 20
# What Markdown obeys inside of code in a table.
_OBEYED: Final = str.maketrans("`|\\", "???")


def engines(rows: Rows) -> str:
    """One line per engine boot of an hour, and their sum."""
    lines = [_line("instance", *COUNTS.values()), _line("---", *["---:"] * len(COUNTS))]
    for row in rows[:MOST_LINES]:
        lines.append(_line(code(row["instance"]), *(_number(row, name) for name in COUNTS)))
    if len(rows) > 1:
        total = {name: sum(row[name] for row in rows) for name in COUNTS}
        lines.append(
            _line(f"all {len(rows)} engine boots", *(_number(total, name) for name in COUNTS))
        )
    return "\n".join(lines)


def losses(rows: Rows) -> str:
    """One line per engine boot and hour that lost or dropped events, and why."""
    lines = [
        _line("hour (UTC)", "instance", "lost", "dropped", "why"),
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in rows[:MOST_LINES]:
        causes = sorted(row["dropped_by_cause"].items())
        lines.append(
            _line(
                f"{row['hour']:%d %b %H:%M}",
                code(row["instance"]),
                _number(row, "unexplained"),
                _number(row, "dropped"),
                ", ".join(f"{code(cause)} {events:,}" for cause, events in causes),
            )
        )
    if len(rows) > MOST_LINES:
        lines.append(_line("…", f"{len(rows) - MOST_LINES:,} lines more", "", "", ""))
    return "\n".join(lines)


def endings(rows: Rows) -> str:
    """One line per engine boot whose end is unknown: its last known number, and when."""
    lines = [
        _line("last heard of (UTC)", "instance", "last known number"),
        "| --- | --- | ---: |",
    ]
    for row in rows[:MOST_LINES]:
        heard = f"{row['heard_at']:%d %b %H:%M}"
        lines.append(_line(heard, code(row["instance"]), f"{row['last_seq']:,}"))
    if len(rows) > MOST_LINES:
        lines.append(_line("…", f"{len(rows) - MOST_LINES:,} lines more", ""))
    return "\n".join(lines)


def code(text: str) -> str:
    """Text from an engine, as inert code in a table cell."""
    return f"`{printable(text, instead='?').translate(_OBEYED)}`"


def _number(row: dict[str, Any], name: str) -> str:
    count = f"{row[name]:,}"
    return f"**{count}**" if name == "unexplained" and row[name] else count


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
