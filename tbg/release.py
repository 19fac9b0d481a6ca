"""``tbg release``: lets a week be published although a proof in it fails."""

from datetime import date
from pathlib import Path

import click

from tbg.options import Parsed
from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option
from tbg.verify import WEEK, signature_option
from tbg_core.evidence import cases_of_week
from tbg_core.releases import failure, held_back, release, released
from tbg_core.wording import counted, printable


def _text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError
    return text.strip()


TEXT = Parsed(_text, "be a line of text")


@click.command("release")
@click.argument("monday", metavar="WEEK", type=WEEK)
@click.option("--by", required=True, type=TEXT, help="Who decides.")
@click.option("--reason", required=True, type=TEXT, help="Why; it is published with the week.")
@signature_option
@state_option
def command(monday: date, by: str, reason: str, signature: str, state_path: Path) -> None:
    """Let a closed week be published although proofs among its first ten fail.

    Who decided, when and why is kept (table week_releases) and published with the result.
    It holds for the shares that fail now: another one that fails later holds the week back
    again. tbg verify --week WEEK shows what fails.

    \b
    Examples:
      tbg release 2026-W47 --by alice --reason "our node was away; the block is on the chain"
    """
    week = f"{monday:%G-W%V}"
    with connect(database_url(State(state_path))) as database:
        cases = [
            case for case in cases_of_week(database, monday, signature) if case.rank is not None
        ]
        if not cases:
            raise click.ClickException(f"week {week} has no result yet")
        failing = held_back(cases, released(database, monday))
        if not failing:
            raise click.ClickException(f"no proof of week {week} fails that was not released")
        release(database, monday, failing, by, reason)
    for case in failing:
        click.echo(f"released: {printable(failure(case))}")
    click.echo(
        f"{counted(len(failing), 'share')} of week {week} let pass by {by}: {reason}. The week is "
        "published within half an hour, or at once by materialising it in Dagster."
    )
