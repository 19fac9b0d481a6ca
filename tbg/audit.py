"""``tbg ledger --audit``: counts every number from the rows.

The audit trusts none of the ledger's counters: it looks for each number that an engine
used in the tables (``audit_numbers`` in sql/0010_audit.sql).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row
from rich import box
from rich.markup import escape
from rich.table import Column, Table

from tbg.terminal import Terminal
from tbg_core.wording import counted, printable

COLUMNS: Final = {
    "emitted": "emitted",
    "stored": "stored",
    "refused": "refused",
    "dropped": "dropped",
    "missing": "missing",
    "doubled": "twice",
    "unaccounted": "unaccounted",
}
MOST_SPANS: Final = 10  # ranges of numbers shown of one engine boot
_AUDIT: Final[LiteralString] = """
select a.instance_id, a.instance, a.emitted, a.stored, a.refused, a.dropped, a.missing, a.doubled,
    greatest(numbers_in(a.absent) - a.expired, 0) as unaccounted,
    array(select array[lower(span), upper(span) - 1] from unnest(a.absent) as span) as absent,
    e.ending, e.seq_emitted as last_seq, e.unsent, e.heard_at
from audit_numbers() a
join engine_endings e using (instance_id)
order by unaccounted desc, a.doubled desc, a.instance
"""

Rows = Sequence[dict[str, Any]]
Counted = tuple[str, Mapping[str, int], bool]


def audit(database: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Returns a row for each engine boot; ``absent`` holds first and last numbers of ranges."""
    return database.cursor(row_factory=dict_row).execute(_AUDIT).fetchall()


def wrong(row: dict[str, Any]) -> bool:
    """Whether numbers of an engine boot are stored twice, or nowhere and not missed."""
    return bool(row["unaccounted"] or row["doubled"])


def counts(title: str, names: Mapping[str, str], rows: Iterable[Counted]) -> Table:
    """Counts as a table.

    Args:
        title: of the first column.
        names: the counts shown, each with the title of its column.
        rows: what the first column holds, the counts, and whether something is wrong.
    """
    table = Table(Column(title, min_width=11), box=box.SIMPLE_HEAD, collapse_padding=True)
    for name in names.values():
        table.add_column(name, justify="right")
    for first, row, bad in rows:
        shown = (f"{row[name]:,}" for name in names)
        table.add_row(escape(printable(first)), *shown, style="red" if bad else None)
    return table


def show_endings(console: Terminal, rows: Rows) -> int:
    """Says how the engine boots of the rows ended, where that is worth a line.

    Returns:
        How many boots are over without anything that vouches for their last number.
    """
    boots = {row["instance"]: row for row in rows}
    unknown = 0
    for name, row in boots.items():
        last = f"number {row['last_seq']:,}" if row["last_seq"] else "no number"
        if row["ending"] == "unknown":
            unknown += 1
            at = f"{row['heard_at'].astimezone(UTC):%F %H:%M} UTC"
            text = f"{name}: end unknown: {last} is the last that is known, last heard of at {at}"
        elif row["ending"] == "ended" and row["unsent"]:
            text = (
                f"{name}: ended with {last}; "
                f"{counted(row['unsent'], 'event')} never reached the socket"
            )
        else:
            continue
        console.print(printable(text), markup=False)
    if unknown:
        console.print(
            f"the end of {counted(unknown, 'engine boot')} is unknown: "
            "more may be lost than is known"
        )
    return unknown


def show(console: Terminal, rows: Rows) -> None:
    """Shows the audit as a table, then the numbers that nothing accounts for."""
    boots = ((row["instance"], row, wrong(row)) for row in rows)
    console.print(counts("engine boot", COLUMNS, boots))
    for row in rows:
        if row["unaccounted"]:
            spans = [f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in row["absent"]]
            more = (
                f", and {counted(len(spans) - MOST_SPANS, 'range')} more"
                if spans[MOST_SPANS:]
                else ""
            )
            numbers = "; ".join(spans[:MOST_SPANS])
            name = printable(row["instance"])
            console.print(f"{name}: nowhere: {numbers}{more}", markup=False)
    show_endings(console, rows)
    lost = sum(row["unaccounted"] for row in rows)
    twice = sum(row["doubled"] for row in rows)
    if lost:
        console.print(
            f"{counted(lost, 'event was', 'events were')} taken for stored and found nowhere"
        )
    if twice:
        console.print(f"{counted(twice, 'row is', 'rows are')} a second copy of a number")
    if not lost and not twice:
        console.print("every number is stored once, refused, or known to be missing")
