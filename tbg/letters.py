"""``tbg dead-letters``: what was refused, and bringing it back."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, LiteralString

import click
from psycopg.rows import dict_row
from redis.exceptions import RedisError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ingest.writer.codecs import prepare
from ingest.writer.leaderboard import Leaderboard
from ingest.writer.replay import Outcome, Replay
from tbg import outputs
from tbg.options import Parsed, json_list_option, utc
from tbg.servers import connect, database_url, find_urls
from tbg.stack.state import State, state_option
from tbg_core.database import AWAY, connect_async, explain
from tbg_core.flavour import fetch_flavour
from tbg_core.primary import connect_redis_async
from tbg_core.settings import RetentionSettings
from tbg_core.wording import counted, printable

MOST_RAW: Final = 2000  # characters of a letter's bytes in JSON
_FOUND: Final[LiteralString] = """
from dead_letters
where (%(stage)s::text is null or stage = %(stage)s)
  and (%(reason)s::text is null or reason = %(reason)s)
  and (%(instance)s::text is null or instance = %(instance)s)
  and (%(since)s::timestamptz is null or received_at >= %(since)s)
  and (%(until)s::timestamptz is null or received_at < %(until)s)
  and (%(ids)s::bigint[] is null or id = any(%(ids)s))
  and (%(replayed)s or replayed_at is null)
"""
_LIST: Final[LiteralString] = f"""
select id, received_at, stage, reason, detail, instance, seq, raw, replayed_at
{_FOUND}
order by id desc
limit %(most)s
"""
# In the order in which they came.
_IDS: Final[LiteralString] = f"select id {_FOUND} order by id limit %(most)s"

MOMENT: Final = Parsed(utc, "look like 2026-11-22T07:30, in UTC")
Command = Callable[..., None]


def _filters(command: Command) -> Command:
    """The options that choose letters."""
    for option in reversed(
        (
            click.option("--stage", help="Who refused it: receiver or writer."),
            click.option("--reason", help="Why: bad_data, database, number_reused and others."),
            click.option("--instance", help="Of one engine boot."),
            click.option("--since", type=MOMENT, help="Refused from then on, UTC."),
            click.option("--until", type=MOMENT, help="Refused before then, UTC."),
            click.option("--id", "ids", type=int, multiple=True, help="This one; may be repeated."),
        )
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def command() -> None:
    """Show what was refused, and bring it back.

    A refused event is kept with its bytes and the reason. When the reason is mended (a full
    disk, a wrong clock, an engine's fault that a new version accepts), replay stores it.

    \b
    Examples:
      tbg dead-letters list
      tbg dead-letters replay --reason database --dry-run
      tbg dead-letters replay --reason database
    """


@command.command("list")
@state_option
@_filters
@click.option("--replayed", is_flag=True, help="With those that were replayed.")
@click.option("--last", "most", default=20, show_default=True, type=click.IntRange(1, 100_000))
@json_list_option
def list_command(
    state_path: Path, replayed: bool, most: int, as_json: bool, **filters: Any
) -> None:
    """List dead letters, newest first.

    \b
    Examples:
      tbg dead-letters list
      tbg dead-letters list --stage writer --since 2026-11-22T07:00
      tbg dead-letters list --instance ckpool-eu1/1763769600123456 --json
    """
    with connect(database_url(State(state_path)), row_factory=dict_row) as database:
        rows = database.execute(_LIST, _wanted(filters, replayed=replayed, most=most)).fetchall()
    if as_json:
        outputs.show_all(outputs.DeadLetter, map(_as_json, rows))
    else:
        _show(rows)


@command.command("replay")
@state_option
@_filters
@click.option("--all", "everything", is_flag=True, help="Every letter that was not replayed.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would come back; change nothing.")
@click.option("--most", default=100_000, show_default=True, type=click.IntRange(1))
@json_list_option
def replay_command(
    state_path: Path, everything: bool, dry: bool, most: int, as_json: bool, **filters: Any
) -> None:
    """Store refused events after all, through the same checks.

    Each letter is one transaction: the row, the books (one committed more, one refused less)
    and the mark that it was replayed. Replaying it again changes nothing. The daemon may run
    or not. An event whose number another event has (number_reused) is stored without its
    number. Exits 0 if all came back, 3 if some were refused again.

    \b
    Examples:
      tbg dead-letters replay --reason database --dry-run
      tbg dead-letters replay --stage writer --since 2026-11-22T07:00 --until 2026-11-22T08:00
      tbg dead-letters replay --id 4711 --id 4712
      tbg dead-letters replay --all --json
    """
    if not everything and not any(filters.values()):
        raise click.UsageError("say which: --reason, --stage, --instance, --since, --id or --all")
    state = State(state_path)
    url = database_url(state)
    with connect(url) as database:
        wanted = _wanted(filters, replayed=False, most=most)
        ids = [number for (number,) in database.execute(_IDS, wanted)]
    try:
        outcomes = asyncio.run(_replay(url, _redis_url(state), ids, dry=dry))
    except AWAY as error:
        raise click.ClickException(
            f"{explain(error, url)}. What came back before is stored and marked"
        ) from error
    if as_json:
        outputs.show_all(outputs.Replayed, outcomes)
    else:
        _tell(outcomes, dry=dry)
    if not all(one.stored for one in outcomes):
        raise SystemExit(3)


def _wanted(filters: dict[str, Any], *, replayed: bool, most: int) -> dict[str, Any]:
    ids = list(filters.pop("ids")) or None
    return {**filters, "ids": ids, "replayed": replayed, "most": most}


def _redis_url(state: State) -> str | None:
    try:
        return find_urls(state).redis
    except click.ClickException:
        return None  # the leaderboard catches up when the writer starts


async def _replay(url: str, redis_url: str | None, ids: list[int], *, dry: bool) -> list[Outcome]:
    retention = RetentionSettings.load()
    connection = await connect_async(url, application="tbg dead-letters")
    try:
        await prepare(connection)
        plain = await fetch_flavour(connection) == "postgresql"
        days = timedelta(days=retention.retention_days)
        replay = Replay(connection, days, plain=plain, dry=dry)
        outcomes = [await replay.replay(number) for number in ids]
    finally:
        await connection.close()
    if replay.raised and not dry and redis_url is not None:
        with contextlib.suppress(RedisError, OSError):  # as above
            client = await connect_redis_async(redis_url, seconds=5)
            board = Leaderboard(client, timedelta(days=retention.leaderboard_days))
            try:
                await board.raise_bests(
                    [(week, user, best) for week, _, user, best in replay.raised]
                )
            finally:
                await client.aclose()
    return outcomes


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    moments = ("received_at", "replayed_at")
    return {
        **row,
        "raw": row["raw"].decode(errors="backslashreplace")[:MOST_RAW],
        **{name: row[name] and row[name].astimezone(UTC).isoformat() for name in moments},
    }


def _show(rows: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    if not rows:
        console.print("no such dead letter")
        return
    table = Table("id", "refused (UTC)", "by", "reason", "engine boot", "number", "detail",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        came: datetime = row["received_at"].astimezone(UTC)
        table.add_row(
            str(row["id"]),
            f"{came:%m-%d %H:%M:%S}",
            *(escape(printable(row[name] or "")) for name in ("stage", "reason", "instance")),
            "" if row["seq"] is None else f"{row['seq']:,}",
            ("replayed: " if row["replayed_at"] else "") + escape(printable(row["detail"][:200])),
        )
    console.print(table)


def _tell(outcomes: list[Outcome], *, dry: bool) -> None:
    console = Console(highlight=False)
    if not outcomes:
        console.print("no such dead letter")
    for result, count in Counter(one.result for one in outcomes).most_common():
        if result != "refused":
            console.print(f"{counted(count, 'letter')} {result}")
    again = Counter((one.reason, one.detail) for one in outcomes if one.result == "refused")
    for (reason, detail), count in again.most_common(20):
        text = f"{counted(count, 'letter')} refused again, {reason}: {detail[:300]}"
        console.print(printable(text), markup=False)
    if dry and outcomes:
        console.print("this was a dry run: nothing has changed")
