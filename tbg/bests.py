"""``tbg bests``: the best shares of users and workers."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any, Final, LiteralString

import click
from psycopg.rows import dict_row
from rich import box
from rich.markup import escape
from rich.table import Table

from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option
from tbg.terminal import terminal
from tbg_core.wording import percent, printable, si

PERIODS: Final = ("session", "week", "month", "round", "alltime")
_QUERY: Final[LiteralString] = """
select scope, period, since, btc_address, worker_name, best_difficulty, found_at, share_hash,
    shares, work, chance
from bests
where period = %(period)s and scope = %(scope)s
  and (%(user)s::text is null or btc_address = %(user)s)
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
    url = database_url(State(state_path))
    scope = "worker" if by_worker else "user"
    wanted = {"scope": scope, "user": user, "most": most}
    rows: list[dict[str, Any]] = []
    with connect(url, row_factory=dict_row) as connection:
        for period in periods or PERIODS:
            rows += connection.execute(_QUERY, {**wanted, "period": period}).fetchall()
    if as_json:
        times = ("since", "found_at")
        click.echo(
            json.dumps(
                [
                    {**row, **{name: row[name] and row[name].isoformat() for name in times}}
                    for row in rows
                ],
                indent=2,
            )
        )
    else:
        _show(rows, periods or PERIODS)


def _show(rows: list[dict[str, Any]], periods: tuple[str, ...]) -> None:
    console = terminal()
    for period in periods:
        mine = [row for row in rows if row["period"] == period]
        console.print(period if mine else f"{period}: no share")
        if not mine:
            continue
        table = Table("", "who", "best", "found (UTC)", "chance", "hash", box=box.SIMPLE_HEAD)
        for place, row in enumerate(mine, 1):
            table.add_row(
                f"{place}",
                escape(printable(f"{row['btc_address']}.{row['worker_name']}")),
                si(row["best_difficulty"], 4),
                f"{row['found_at'].astimezone(UTC):%F %T}",
                "–" if row["chance"] is None else percent(row["chance"]),
                row["share_hash"] or "–",
            )
        console.print(table)
