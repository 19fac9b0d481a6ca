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

    Those of a writer of a cell have the cell and a slash before the name.

    They stay behind for ever, and tbg status, tbg import and the check writers_keep_up
    count what the slowest has not committed. The rows that were stored under the name stay.

    \b
    Examples:
      psql "$DATABASE_URL" -c \
        'select cell, consumer, max(updated_at) from stream_offsets group by 1, 2'
      tbg forget writer2
      tbg forget eu1/writer
    """
    cell, _, name = consumer.rpartition("/")
    with connect(database_url(State(state_path))) as database, database.transaction():
        running = database.execute(
            "select from pg_stat_activity "
            "where datname = current_database() and application_name = %s",
            [f"tbg writer {consumer}"],
        ).fetchone()
        if running is not None:
            raise click.ClickException(f"a writer runs under the name {consumer}: stop it first")
        gone = database.execute(
            "delete from stream_offsets where cell = %s and consumer = %s", [cell, name]
        )
        if not gone.rowcount:
            names = database.execute(
                "select distinct concat(nullif(cell, '') || '/', consumer) "
                "from stream_offsets order by 1"
            ).fetchall()
            known = ", ".join(name for (name,) in names) or "none"
            raise click.ClickException(f"no offsets are kept under {consumer!r}; known: {known}")
    click.echo(f"forgot the offsets of {consumer}")
