"""``tbg forget``: removes the offsets of a writer's name that is not used any more."""

from pathlib import Path

import click

from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option


@click.command("forget")
@state_option
@click.argument("consumer")
def command(state_path: Path, consumer: str) -> None:
    """Forget the offsets of a name (CONSUMER) that no writer uses any more.

    They stay behind for ever, and tbg status, tbg import and the check writers_keep_up
    count what the slowest has not committed. The rows that were stored under the name stay.

    \b
    Examples:
      psql "$DATABASE_URL" -c 'select consumer, max(updated_at) from stream_offsets group by 1'
      tbg forget writer2
    """
    with connect(database_url(State(state_path))) as database, database.transaction():
        running = database.execute(
            "select from pg_stat_activity "
            "where datname = current_database() and application_name = %s",
            [f"tbg writer {consumer}"],
        ).fetchone()
        if running is not None:
            raise click.ClickException(f"a writer runs under the name {consumer}: stop it first")
        gone = database.execute("delete from stream_offsets where consumer = %s", [consumer])
        if not gone.rowcount:
            names = database.execute(
                "select distinct consumer from stream_offsets order by 1"
            ).fetchall()
            known = ", ".join(name for (name,) in names) or "none"
            raise click.ClickException(f"no offsets are kept under {consumer!r}; known: {known}")
    click.echo(f"forgot the offsets of {consumer}")
