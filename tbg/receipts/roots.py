"""``tbg receipts``: the log of roots in a folder, and an hour that a person amends."""

import json
import os
from datetime import datetime
from pathlib import Path

import click
from psycopg.rows import dict_row

from tbg import outputs
from tbg.options import Parsed, json_option, utc
from tbg.receipts.signing import key_option, sign
from tbg.receipts.source import archive_option, source
from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option
from tbg_core.periods import from_micros
from tbg_core.receipts import log, stored
from tbg_core.receipts.merkle import root_of
from tbg_core.wording import counted
from tbg_dagster.partitions import HOUR
from tbg_dagster.receipts.publish import publish

ROOTS = "roots.jsonl"
HEAD = "head.json"


@click.group("receipts")
def command() -> None:
    """Publish the roots that receipts are checked against.

    Dagster makes a root for every closed hour (docs/check-your-receipt.md).

    \b
    Examples:
      tbg receipts publish /srv/www/roots
      tbg receipts amend 2026-11-23T07 --reason "a forged share, marked as invalid"
    """


@command.command("publish")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@key_option
@state_option
@json_option
def publish_command(folder: Path, key: Path | None, state_path: Path, as_json: bool) -> None:
    """Write the log of roots into FOLDER, to be mirrored anywhere.

    roots.jsonl has one line for each hour and revision, and only grows; head.json has the size of
    the log and the root of the tree over it (RFC 6962). What is in the folder must be the
    beginning of the log: if it is not, nothing is written and the exit code is 3.

    \b
    Examples:
      tbg receipts publish /srv/www/roots
      tbg receipts publish /srv/www/roots --key pool.pem --json
    """
    with connect(database_url(State(state_path)), row_factory=dict_row) as connection:
        try:
            entries = stored.whole(connection)
            known = _beginning(folder / ROOTS, entries)
        except log.BrokenError as error:
            click.echo(f"nothing was written: {error}", err=True)
            raise SystemExit(3) from error
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(entry.as_json())}\n" for entry in entries)
    _replace(folder / ROOTS, lines)
    head = {
        "size": len(entries),
        "root": root_of([entry.hash for entry in entries]).hex(),
        "last": entries[-1].hash.hex() if entries else None,
    }
    _replace(folder / HEAD, json.dumps(head) + "\n")
    if key:
        sign(folder / HEAD, key)
    if as_json:
        outputs.show(outputs.PublishedRoots, head | {"added": len(entries) - len(known)})
    else:
        click.echo(
            f"{folder}: {counted(len(entries), 'root')}, {len(entries) - len(known):,} of them new; "
            f"the last is {head['last'] or 'none'}"
        )


def _beginning(path: Path, entries: list[log.Entry]) -> list[log.Entry]:
    """What a file has of these entries.

    Raises:
        BrokenError: when it is not their beginning.
    """
    known = read(path)
    if known != entries[: len(known)]:
        raise log.BrokenError(
            f"{path} has {counted(len(known), 'entry', 'entries')}, which are not the beginning of "
            "the database's log: one of the two is another pool's, or was changed"
        )
    return known


def read(path: Path) -> list[log.Entry]:
    """The entries of a file; none if there is no such file.

    Raises:
        BrokenError: when a line is no entry, or does not follow the one before.
    """
    if not path.exists():
        return []
    try:
        found = [log.parse(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise log.BrokenError(f"{path}: {error}") from error
    log.check(found)
    return found


def _replace(path: Path, text: str) -> None:
    """Readers see the old file or the new one, whole."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)


def _hour(text: str) -> datetime:
    moment = utc(text)
    if moment.minute or moment.second or moment.microsecond:
        raise ValueError
    return moment


_HOUR_LOOKS = "look like 2026-11-22T07, in UTC"


@command.command("amend")
@click.argument("hour", type=Parsed(_hour, _HOUR_LOOKS))
@click.option("--to", "last", type=Parsed(_hour, _HOUR_LOOKS), help="Up to this hour, included.")
@click.option("--reason", required=True, help="Why; it is published with the new root.")
@archive_option
@state_option
def amend_command(
    hour: datetime, last: datetime | None, reason: str, url: str | None, state_path: Path
) -> None:
    """Publish new roots for hours whose rows a person has changed.

    The old root stays in the log, and everybody sees the new one, its revision and the reason. It
    is not for late events, which Dagster takes in by itself.

    \b
    Examples:
      tbg receipts amend 2026-11-23T07 --reason "a forged share, marked as invalid"
      tbg receipts amend 2026-11-16T00 --to 2026-11-29T23 --reason "another form of leaves"
    """
    end = (last or hour) + HOUR
    if end <= hour:
        raise click.UsageError(f"--to {last:%FT%H} lies before {hour:%FT%H}")
    hours = [hour + number * HOUR for number in range((end - hour) // HOUR)]
    if not reason.strip() or len(reason) > 500:
        raise click.UsageError("--reason must say why, in at most 500 characters")
    with source(state_path, url) as (connection, rows):
        done = publish(connection, rows, hour, end, hours, reason)
    for at, why in done.held:
        click.echo(f"{at:%F %H:%M}: {why}", err=True)
    made = [entry for entry in done.entries if entry.reason]
    for entry in made:
        click.echo(
            f"entry {entry.place}: revision {entry.revision} of "
            f"{from_micros(entry.hour):%F %H:%M}, {entry.hash.hex()}"
        )
    if not made:
        click.echo(
            f"{', '.join(f'{at:%F %H:%M}' for at in dict.fromkeys((hours[0], hours[-1])))}: "
            "the rows give the roots that are published, or there are none"
        )
    if done.held:
        raise SystemExit(3)
