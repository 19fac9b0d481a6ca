"""``tbg ledger``: what became of every event, by engine boot and hour."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, LiteralString

import click
import psycopg
import redis
from psycopg.rows import dict_row

from tbg import audit, outputs
from tbg.options import Parsed, json_list_option, utc
from tbg.repair import repair
from tbg.servers import connect, database_url, find_urls
from tbg.stack.state import State, state_option
from tbg.terminal import terminal
from tbg_core.primary import connect_redis
from tbg_core.wording import counted, printable

# What the table shows, under names short enough for 80 columns.
COUNTS: Final = {
    "emitted": "emitted",
    "received": "received",
    "committed": "stored",
    "dead_lettered": "refused",
    "duplicates": "resent",
    "dropped": "dropped",
    "unexplained": "lost",
}
_QUERY: Final[LiteralString] = """
select l.instance, l.hour, l.emitted, l.received, l.published, l.committed, l.dead_lettered,
    l.duplicates, l.dropped, l.dropped_by_cause, l.missing, l.unexplained, e.ending,
    e.seq_emitted as last_seq, e.unsent, e.heard_at, e.cell
from ledger_hours l
join engine_endings e using (instance_id)
where (%(hour)s::timestamptz is null or hour = %(hour)s)
  and (%(instance)s::text is null or l.instance = %(instance)s)
  and (%(cell)s::text is null or e.cell = %(cell)s)
order by l.hour desc, l.instance
limit %(most)s
"""


def _hour(text: str) -> datetime:
    return utc(text).replace(minute=0, second=0, microsecond=0)


HOUR: Final = Parsed(_hour, "look like 2026-11-22T07, in UTC")


@click.command("ledger")
@state_option
@click.option("--hour", type=HOUR, help="One hour, UTC, as 2026-11-22T07.")
@click.option("--instance", help="One engine boot, as tbg status names it.")
@click.option("--cell", help="One cell, as CELL names it.")
@click.option("--last", "most", default=48, show_default=True, help="Most rows, newest first.")
@json_list_option
@click.option(
    "--audit",
    "audited",
    is_flag=True,
    help="Count every number from the rows themselves, over all that is kept.",
)
@click.option(
    "--repair",
    "repaired",
    is_flag=True,
    help="After --audit: reread missing events that the streams still hold; let others come again.",
)
def command(
    state_path: Path,
    hour: datetime | None,
    instance: str | None,
    cell: str | None,
    most: int,
    as_json: bool,
    audited: bool,
    repaired: bool,
) -> None:
    """Show the share ledger: emitted, received, stored, and what is missing.

    A boot that is over and whose last number nobody vouches for is shown as "end unknown":
    it may have lost more than is shown.

    Exits 0 if every known loss is explained, 3 if one is not. With --audit it looks for every
    number in the tables, independently of the ledger, and exits 3 if one is nowhere or
    stored twice. It reads all shares that are kept: about four seconds a million.

    --repair searches the streams for every number that has no row, and makes the writer read
    those parts again. What no stream holds may be sent again by its engine, with its old
    instance and number. Nothing is stored twice.

    \b
    Examples:
      tbg ledger
      tbg ledger --hour 2026-11-22T07
      tbg ledger --instance ckpool-eu1/1763769600123456 --json
      tbg ledger --audit
      tbg ledger --audit --repair
    """
    if repaired and not audited:
        raise click.UsageError("--repair needs --audit")
    with connect(database_url(State(state_path)), row_factory=dict_row) as database:
        if audited:
            rows = _audit(database, as_json=as_json)
            if repaired:
                _repair(database, State(state_path), rows, as_json=as_json)
            if any(audit.wrong(row) for row in rows):
                raise SystemExit(3)
            return
        wanted = {"hour": hour, "instance": instance, "cell": cell, "most": most}
        rows = database.execute(_QUERY, wanted).fetchall()
    if as_json:
        outputs.show_all(outputs.LedgerHour, rows)
    else:
        _show(rows)
    if any(row["unexplained"] for row in rows):
        raise SystemExit(3)


def _audit(database: psycopg.Connection[Any], *, as_json: bool) -> list[dict[str, Any]]:
    console = terminal(stderr=as_json)
    with console.status("counting every number from the rows"):
        rows = audit.audit(database)
    if as_json:
        outputs.show_all(outputs.AuditedBoot, rows)
    else:
        audit.show(console, rows)
    return rows


def _repair(
    database: psycopg.Connection[Any], state: State, rows: list[dict[str, Any]], *, as_json: bool
) -> None:
    console = terminal(stderr=as_json)
    try:
        with connect_redis(find_urls(state).redis) as client:
            done = repair(database, client, rows)
    except (redis.RedisError, click.ClickException) as error:
        console.print(f"the streams were not searched: {error}", markup=False)
        done = repair(database, None, rows)
    if done.reopened:
        console.print(
            f"the writer reads the streams again: {done.reopened:,} numbers are holes until they come"
        )
    if done.found:
        console.print(f"{done.found:,} missing numbers are in the streams: the writer reads them")
    left = done.missing - (done.found or 0)
    if left and done.found is not None:
        console.print(
            f"{counted(left, 'number is', 'numbers are')} in no stream: an engine may send them "
            "again, with the old instance and number"
        )
    for cell in done.unreached:
        console.print(
            f"the streams of cell {cell} are in another Redis and were not searched: run this again "
            "with its REDIS_URL",
            markup=False,
        )
    if done.reopened or done.found:
        console.print("Run tbg ledger --audit when tbg status shows no lag")


def _show(rows: list[dict[str, Any]]) -> None:
    console = terminal()
    if not rows:
        console.print("the ledger has no such hour")
        return
    for instance, cell in {row["instance"]: row["cell"] for row in rows}.items():
        at = f" (cell {cell})" if cell else ""
        console.print(f"{printable(instance)}{at}", markup=False)
        hours = (
            (f"{row['hour'].astimezone(UTC):%m-%d %H:%M}", row, bool(row["unexplained"]))
            for row in rows
            if row["instance"] == instance
        )
        console.print(audit.counts("hour (UTC)", COUNTS, hours))
    for row in rows:
        for cause, events in sorted(row["dropped_by_cause"].items()):
            text = f"{row['instance']}: {events:,} dropped, {cause}"
            console.print(printable(text), markup=False)
    unknown = audit.show_endings(console, rows)
    lost = sum(row["unexplained"] for row in rows)
    if lost:
        console.print(f"{counted(lost, 'event is', 'events are')} missing without explanation")
    elif not unknown:
        console.print("no unexplained loss")
