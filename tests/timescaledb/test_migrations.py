"""What the migrations make of a server that has the extension."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.settings import WriterSettings
from ingest.writer.writer import Writer
from tbg.migrate import detect_flavour, sql_folder
from tbg_core.flavour import flavour_of
from tbg_core.names import leaderboard_key, stream_of, week_start
from tests.ingest.harness import golden
from tests.timescaledb.server import Connection, apply, connecting, empty, serving


@pytest.fixture(scope="module")
def new_server() -> Iterator[str]:
    """A server of this module's own, whose database has had no extension yet."""
    with serving() as url:
        yield url


def test_a_new_server_gets_every_migration_and_is_timescaledb(new_server: str) -> None:
    with connecting(new_server) as connection:
        assert flavour_of(connection) is None
        assert detect_flavour(connection) == "timescaledb"
        applied = apply(connection, "timescaledb")
        assert flavour_of(connection) == detect_flavour(connection) == "timescaledb"
        hypertables = connection.execute(
            "select hypertable_name as name from timescaledb_information.hypertables order by 1"
        ).fetchall()
        aggregates = connection.execute(
            "select view_name as name, materialized_only from "
            "timescaledb_information.continuous_aggregates order by 1"
        ).fetchall()
    folder = sql_folder()
    files = [*folder.glob("*.sql"), *(folder / "timescaledb").glob("*.sql")]
    assert sorted(applied) == sorted(file.stem for file in files)
    assert [row["name"] for row in hypertables] == ["mining_events", "shares"]
    # Hours that nobody has refreshed yet must show.
    assert aggregates == [
        {"name": "shares_daily", "materialized_only": False},
        {"name": "shares_hourly", "materialized_only": False},
    ]


def test_nothing_is_dropped_by_a_policy(connection: Connection) -> None:
    assert (
        connection.execute(
            "select * from timescaledb_information.jobs where proc_name = 'policy_retention'"
        ).fetchall()
        == []
    )


async def _insert(self: asyncpg.Connection, table: str, *, records: Any, columns: Any) -> str:
    """INSERT in place of COPY, which this server lacks; how many rows it took."""
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    insert = f"insert into {table} ({', '.join(columns)}) values ({values})"  # noqa: S608  # our own names
    said = [await self.execute(insert, *record) for record in records]
    return f"COPY {said.count('INSERT 0 1')}"


async def test_a_writer_makes_the_partitions_of_a_plain_schema_beside_the_extension(
    new_server: str,
    redis_url: str,
    redis: redis_async.Redis,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connecting(new_server) as connection:
        connection.execute("create extension if not exists timescaledb")
        empty(connection)
        apply(connection, "postgresql")  # makes none, unlike `tbg migrate`
        assert connection.execute("select from pg_extension where extname = 'timescaledb'").rowcount
        assert flavour_of(connection) == "postgresql"
    now = datetime.now(UTC)
    times = [now - timedelta(days=40), now]
    for time in times:
        event = golden("share_submitted", timestamp=int(time.timestamp() * 1e6))
        fields: dict[Any, Any] = {**event, "data": json.dumps(event["data"])}
        await redis.xadd(stream_of("share_submitted"), fields)

    monkeypatch.setattr(asyncpg.Connection, "copy_records_to_table", _insert)
    writer = Writer(
        WriterSettings(database_url=new_server, redis_url=redis_url, writer_metrics_port=0)
    )
    work = asyncio.create_task(writer.run())
    await eventually(lambda: redis.exists(leaderboard_key(week_start(now))))
    writer.stop()
    await work

    with connecting(new_server) as connection:
        found = connection.execute(
            "select tableoid::regclass::text as partition from shares order by time"
        ).fetchall()
    assert [row["partition"] for row in found] == [f"shares_p{time:%Y%m%d}" for time in times]
