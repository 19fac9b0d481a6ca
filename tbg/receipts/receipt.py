"""``tbg receipt``: a user's shares, and what leads from them to published roots."""

import gzip
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from tbg import outputs
from tbg.options import Parsed, utc
from tbg.receipts.signing import key_option, sign
from tbg.receipts.source import archive_option, source
from tbg.stack.state import state_option
from tbg_core.events import canonical_address
from tbg_core.periods import midnight, monday_of
from tbg_core.receipts.receipt import ReceiptError, make
from tbg_core.wording import counted, printable, si
from tbg_dagster.partitions import WEEK

MOMENT = Parsed(utc, "be a time as 2026-11-23T07:00, in UTC unless it says otherwise")


@click.command("receipt")
@click.option(
    "--user",
    required=True,
    type=Parsed(canonical_address, "be an address"),
    help="The Bitcoin address whose shares it holds.",
)
@click.option(
    "--week", "monday", type=Parsed(monday_of, "look like 2026-W48"), help="As 2026-W48, UTC."
)
@click.option("--from", "first", type=MOMENT, help="Instead of a week: from this time on.")
@click.option("--to", "last", type=MOMENT, help="Up to this time, which is not included.")
@click.option(
    "--statement",
    is_flag=True,
    help="A statement of work: the sums of each tree and its path, without the shares.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file; receipt.json.gz if left out.",
    default=Path("receipt.json.gz"),
    show_default=True,
)
@key_option
@archive_option
@state_option
@click.option("--json", "as_json", is_flag=True, help="Say what was written as one JSON object.")
def command(
    user: str,
    monday: date | None,
    first: datetime | None,
    last: datetime | None,
    statement: bool,
    output: Path,
    key: Path | None,
    url: str | None,
    state_path: Path,
    as_json: bool,
) -> None:
    """Write a user's receipt for a week, or for a span of time.

    It holds every numbered share of the user with the nodes that lead to the roots that were
    published (`tbg receipts publish`), gzipped. docs/check-your-receipt.md has a program that
    checks it without anything of ours. With --statement the file has no shares: the sums of each
    hour are then the pool's word, below a total that is proved.

    Exits 0 if it has every share of the user that is kept, 3 if some have no root (yet) or no
    number.

    \b
    Examples:
      tbg receipt --user bc1qexample --week 2026-W48
      tbg receipt --user bc1qexample --from 2026-11-23 --to 2026-11-24 --output day.json.gz
      tbg receipt --user bc1qexample --week 2026-W48 --statement --key pool.pem --json
    """
    if (monday is None) == (first is None or last is None):
        raise click.UsageError("say which time: --week, or --from and --to")
    start = midnight(monday) if monday is not None else first
    end = midnight(monday) + WEEK if monday is not None else last
    assert start is not None
    assert end is not None
    if not start < end:
        raise click.UsageError("--from must lie before --to")
    with source(state_path, url) as (connection, rows):
        elsewhere = rows.elsewhere(connection, start, end)
        try:
            made = make(connection, rows, user, start, end, elsewhere=elsewhere, sums=statement)
        except ReceiptError as error:
            raise click.ClickException(str(error)) from error
    size = write(output, made)
    signature = sign(output, key) if key else None
    said = {
        "file": str(output),
        "bytes": size,
        "signature": str(signature) if signature else None,
        **{name: made[name] for name in ("user", "shares", "valid", "difficulty", "without")},
        "hours": len(made["hours"]),
    }
    if as_json:
        outputs.show(outputs.WrittenReceipt, said)
    else:
        _say(said)
    without = made["without"]
    if without["unnumbered"] or without["without_root"]:
        raise SystemExit(3)


def write(path: Path, made: dict[str, Any]) -> int:
    """Writes a receipt, gzipped; returns its size. The same receipt is the same bytes."""
    text = json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()
    packed = gzip.compress(text, mtime=0)
    path.write_bytes(packed)
    return len(packed)


def _say(said: dict[str, Any]) -> None:
    click.echo(
        printable(
            f"{said['file']}: {counted(said['bytes'], 'byte')}; {said['valid']:,} valid shares of "
            f"{said['shares']:,}, difficulty {si(said['difficulty'], 6)}, in "
            f"{counted(said['hours'], 'hour')}"
        )
    )
    without = said["without"]
    if without["without_root"]:
        hours = ", ".join(
            f"{datetime.fromtimestamp(hour / 1e6, UTC):%m-%d %H:%M}"
            for hour in without["hours"][:5]
        )
        click.echo(
            f"{counted(without['without_root'], 'share has', 'shares have')} no root yet: {hours}"
        )
    if without["unnumbered"]:
        click.echo(
            f"{counted(without['unnumbered'], 'share has', 'shares have')} no number: no receipt "
            "can prove them"
        )
