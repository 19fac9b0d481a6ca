"""``tbg bests``: the best shares of users and workers."""

from datetime import UTC
from pathlib import Path
from typing import Any, Final, LiteralString

import click
from psycopg.rows import dict_row
from rich import box
from rich.markup import escape
from rich.table import Table

from tbg import outputs
from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option
from tbg.terminal import terminal
from tbg_core.wording import percent, printable, shortened, si

PERIODS: Final = ("session", "week", "month", "round", "alltime")
WIDE: Final = 170  # columns, for whole addresses and hashes
DIGITS: Final = 12  # of a hash's end
_QUERY: Final[LiteralString] = """
select scope, period, since, btc_address, worker_name, best_difficulty, found_at, share_hash,
    shares, work, chance
from named_bests(%(period)s, %(scope)s, %(user)s)
order by best_difficulty desc, found_at, btc_address, worker_name
limit %(most)s
"""


@click.command("bests")
@state_option
@click.option(
    "--period",
    "periods",
    type=click.Choice(PERIODS),
    multiple=True,
    help="Since the last connect, Monday, the 1st, the last block, or ever; all by default.",
)
@click.option("--workers", "by_worker", is_flag=True, help="By worker instead of by user.")
@click.option("--user", help="Of this address alone.")
@click.option("--top", "most", default=10, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def command(
    state_path: Path,
    periods: tuple[str, ...],
    by_worker: bool,
    user: str | None,
    most: int,
    as_json: bool,
) -> None:
    """Show the best shares, with the chance of doing as well or better for the work done.

    Weeks begin on Monday and months on the 1st, UTC; round is since the pool's last block.

    \b
    Examples:
      tbg bests
      tbg bests --period week --workers --top 20
      tbg bests --period alltime --user bc1qexample --json
    """
    state = State(state_path)
    url = database_url(state)
    scope = "worker" if by_worker else "user"
    wanted = {"scope": scope, "user": user, "most": most}
    rows: list[dict[str, Any]] = []
    with connect(url, row_factory=dict_row) as connection:
        for period in periods or PERIODS:
            rows += connection.execute(_QUERY, {**wanted, "period": period}).fetchall()
    if as_json:
        outputs.show_all(outputs.BestShare, rows)
    else:
        _show(rows, periods or PERIODS, state.option)


def _show(rows: list[dict[str, Any]], periods: tuple[str, ...], option: str) -> None:
    console = terminal()
    # A narrow terminal gets what tells names and hashes apart: a hash begins with zeros.
    name, digits = (str, 64) if console.width >= WIDE else (shortened, DIGITS)
    for period in periods:
        mine = [row for row in rows if row["period"] == period]
        console.print(period if mine else f"{period}: no share")
        if not mine:
            continue
        table = Table(
            "", "best", "who", "found (UTC)", "chance", "hash", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for column in table.columns:
            column.overflow = "fold"
        for place, row in enumerate(mine, 1):
            worker = row["worker_name"]
            table.add_row(
                f"{place}",
                si(row["best_difficulty"], 4),
                escape(printable(name(row["btc_address"]) + (f".{worker}" if worker else ""))),
                f"{row['found_at'].astimezone(UTC):%F %H:%M}",
                "–" if row["chance"] is None else percent(row["chance"]),
                (row["share_hash"] or "–")[-digits:],
            )
        console.print(table)
    best = next((row["share_hash"] for row in rows if row["share_hash"]), None)
    if best is not None:
        console.print(f"the proof of the first: tbg verify {best[-DIGITS:]}{option}")
