"""A migrated database with a history that tests write themselves, and Dagster in process."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest
import redis as redis_sync
from psycopg.rows import DictRow, dict_row

from tbg_core.flavour import flavour_of
from tbg_core.names import leaderboard_key
from tbg_dagster import clock as clock_of_batch
from tbg_dagster.definitions import defs
from tbg_dagster.resources import Archive, BitcoinNode, Database, RedisServer, Thresholds
from tests.clock import Clock

Connection = psycopg.Connection[DictRow]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The batch side's clock, which stands still."""
    made = Clock()
    monkeypatch.setattr("tbg_dagster.clock.now", made.now)
    return made


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """An autocommit connection in UTC; rows are dictionaries."""
    with psycopg.connect(
        database_url, autocommit=True, row_factory=dict_row, options="-c timezone=UTC"
    ) as opened:
        yield opened


@pytest.fixture
def client(redis_url: str) -> Iterator["redis_sync.Redis"]:
    """A redis client whose answers are text."""
    with contextlib.closing(redis_sync.Redis.from_url(redis_url, decode_responses=True)) as opened:
        yield opened


@dataclass
class History:
    """Writes what the realtime side would have written."""

    connection: Connection
    workers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def worker(self, name: str) -> tuple[int, int]:
        """Numbers of user and worker ``user.worker``, made on first sight."""
        if name not in self.workers:
            user, _, worker = name.partition(".")
            row = self.connection.execute(
                "insert into users (btc_address) values (%s) "
                "on conflict (btc_address) do update set btc_address = excluded.btc_address "
                "returning id",
                [user],
            ).fetchone()
            assert row is not None
            user_id = row["id"]
            row = self.connection.execute(
                "insert into workers (user_id, worker_name, first_seen) "
                "values (%s, %s, now() - interval '40 days') returning id",
                [user_id, worker],
            ).fetchone()
            assert row is not None
            self.workers[name] = (user_id, row["id"])
        return self.workers[name]

    def days(self, first: datetime, last: datetime) -> None:
        """Makes room for shares of these days, as the writer does."""
        if flavour_of(self.connection) == "postgresql":
            self.connection.execute("select ensure_partitions(%s, %s)", [first.date(), last.date()])

    def drop(self, *days: datetime) -> None:
        """Drops the raw shares and events of days, as a person does."""
        for day in days:
            if flavour_of(self.connection) == "postgresql":
                for table in ("shares", "mining_events"):
                    self.connection.execute(
                        psycopg.sql.SQL("drop table {}").format(
                            psycopg.sql.Identifier(f"{table}_p{day:%Y%m%d}")
                        )
                    )
                continue
            for table in ("shares", "mining_events"):
                self.connection.execute(
                    "select drop_chunks(%s::regclass, older_than => %s::timestamptz, "
                    "newer_than => %s::timestamptz)",
                    [table, day + timedelta(days=1), day],
                )

    def share(
        self,
        worker: str,
        time: datetime,
        share_diff: float | None = 2000.0,
        difficulty: float = 1000.0,
        reject: str | None = None,
        share_hash: bytes | None = None,
        **more: Any,
    ) -> None:
        """One share."""
        user_id, worker_id = self.worker(worker)
        self.days(time, time)
        row: dict[str, Any] = {
            "time": time,
            "user_id": user_id,
            "worker_id": worker_id,
            "difficulty": difficulty,
            "share_diff": share_diff,
            "is_valid": reject is None,
            "reject_reason": reject,
            "share_hash": share_hash,
            **more,
        }
        self.connection.execute(
            psycopg.sql.SQL("insert into shares ({}) values ({})").format(
                psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, row)),
                psycopg.sql.SQL(", ").join([psycopg.sql.Placeholder()] * len(row)),
            ),
            list(row.values()),
        )

    def shares(
        self, workers: Sequence[str], start: datetime, end: datetime, count: int, seed: float = 0.5
    ) -> None:
        """Many shares, spread over the span, every 20th rejected; the same for the same seed."""
        self.days(start, end)
        numbers = [self.worker(name) for name in workers]
        with self.connection.transaction():
            self.connection.execute("select setseed(%s)", [seed])
            self.connection.execute(
                """
                insert into shares (time, user_id, worker_id, difficulty, share_diff, is_valid,
                                    reject_reason, share_hash)
                select
                    %(start)s::timestamptz
                        + (%(end)s::timestamptz - %(start)s::timestamptz) * (n - 0.5) / %(count)s,
                    (%(users)s::integer[])[1 + n %% %(workers)s],
                    (%(worker_ids)s::integer[])[1 + n %% %(workers)s],
                    1000,
                    1000 / (1 - random()),
                    n %% 20 <> 0,
                    case when n %% 20 = 0 then 'stale' end,
                    sha256(convert_to(%(start)s::text || n, 'UTF8'))
                from generate_series(1, %(count)s) as n
                """,
                {
                    "start": start,
                    "end": end,
                    "count": count,
                    "users": [user for user, _ in numbers],
                    "worker_ids": [worker for _, worker in numbers],
                    "workers": len(numbers),
                },
            )

    def bests(self, client: "redis_sync.Redis") -> None:
        """The bests of the weeks that are not finalised, in the table and in Redis."""
        rows = self.connection.execute(
            "insert into weekly_best_diff as w "
            "(user_id, week_start, best_difficulty, best_share_time) "
            "select user_id, date_trunc('week', time at time zone 'UTC')::date, max(share_diff), "
            "max(time) from shares where is_valid group by 1, 2 on conflict do nothing returning "
            "(select btc_address from users where id = w.user_id) as user, week_start, "
            "best_difficulty"
        ).fetchall()
        for row in rows:
            client.zadd(leaderboard_key(row["week_start"]), {row["user"]: row["best_difficulty"]})

    def late(self, hour: datetime, shares: int) -> None:
        """Records late shares of a closed hour, as the writer does."""
        self.connection.execute(
            "insert into late_share_hours as l (hour, shares) values (%s, %s) "
            "on conflict (hour) do update set shares = l.shares + excluded.shares, "
            "last_recorded_at = now()",
            [hour, shares],
        )

    def block(
        self,
        worker: str,
        height: int,
        block_hash: str,
        found_at: datetime | None = None,
        status: str = "found",
    ) -> None:
        """One block of ours."""
        user_id, worker_id = self.worker(worker)
        self.connection.execute(
            "insert into blocks (block_height, block_hash, user_id, worker_id, reward_sats, "
            "difficulty, network_difficulty, coinbase_sig, found_at, status) "
            "values (%s, %s, %s, %s, 312500000, 1, 1, '/TheBitcoinGame/', %s, %s)",
            [height, block_hash, user_id, worker_id, found_at or clock_of_batch.now(), status],
        )


@pytest.fixture
def history(connection: Connection) -> History:
    """Writes shares, blocks and late hours."""
    return History(connection)


@pytest.fixture
def resources(database_url: str, redis_url: str) -> dict[str, Any]:
    """The code location's resources on the test's servers. No node answers."""
    return {
        "database": Database(url=database_url),
        "redis_server": RedisServer(url=redis_url),
        "bitcoin_node": BitcoinNode(url="http://127.0.0.1:1", retries=0, timeout_seconds=2),
        "archive": Archive(),
        "thresholds": Thresholds(),
    }


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Run:
    """``run("weekly_reset", "2026-11-09")`` runs a job of the code location, in process.

    A second key makes a range of partitions; ``raise_on_error=False`` returns a
    failed run instead of raising.
    """

    def execute(
        job: str, first: str | None = None, last: str | None = None, raise_on_error: bool = True
    ) -> dg.ExecuteInProcessResult:
        definitions = dg.Definitions(
            assets=defs.assets,
            asset_checks=defs.asset_checks,
            jobs=defs.jobs,
            executor=defs.executor,
            resources=resources,
        )
        found = definitions.resolve_job_def(job)
        tags = {}
        if last is not None:
            tags = {
                "dagster/asset_partition_range_start": str(first),
                "dagster/asset_partition_range_end": last,
            }
        return found.execute_in_process(
            instance=instance,
            partition_key=first if last is None else None,
            tags=tags,
            raise_on_error=raise_on_error,
        )

    return execute


def utc(*parts: int) -> datetime:
    """A time in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # as datetime() takes it


def last_monday(weeks_ago: int = 1) -> datetime:
    """Monday 00:00 UTC, so many weeks before the running one."""
    today = clock_of_batch.today()
    return today - timedelta(days=today.weekday(), weeks=weeks_ago)


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Metadata of the last materialisation of an asset in a run."""
    events = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in events[-1].metadata.items()}
