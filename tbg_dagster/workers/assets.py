"""What workers did, and whether they are there."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import Final

import dagster as dg
import pandas as pd
import pyarrow as pa
from psycopg import sql
from pyarrow import csv

from tbg_core.names import ALERTS_STREAM
from tbg_core.outbox import deliver
from tbg_dagster import clock
from tbg_dagster.columns import columns
from tbg_dagster.late import settle
from tbg_dagster.partitions import DAILY, RETRY, backfill, window
from tbg_dagster.picture import hashrate
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, RedisServer, Thresholds
from tbg_dagster.rollup import Span, raw_spans
from tbg_dagster.workers.liveness import mark_silent
from tbg_dagster.workers.stats import COLUMNS, worker_stats

GROUP = "workers"
OWNERS = ["team:data"]

# Days: while the database works on one, Python works on the other.
AT_ONCE: Final = 2

_COPY: Final = sql.SQL("copy worker_stats_daily ({}) from stdin (format csv)").format(
    sql.SQL(", ").join(map(sql.Identifier, ("day", *COLUMNS)))
)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=backfill(DAILY),
    retry_policy=RETRY,
    deps=["shares", "shares_daily"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pandas", "postgres"},
    pool="rollup",
    metadata=columns(
        day=("date", "UTC"),
        user_id=("integer", "users.id"),
        worker_id=("integer", "workers.id"),
        accepted=("bigint", "valid shares"),
        rejected=("bigint", "invalid shares"),
        reject_ratio=("double precision", "rejected over all"),
        rejects_by_reason=("jsonb", "reason → shares"),
        work=("double precision", "sum of accepted assigned difficulty"),
        hashrate=("double precision", "H/s over the whole day"),
        hashrate_low=("double precision", "95 % confidence interval"),
        hashrate_high=("double precision", "95 % confidence interval"),
        hashrate_up=("double precision", "H/s while it was up"),
        uptime_seconds=("double precision", "gaps between shares that chance explains"),
        longest_gap_seconds=("double precision", "between two shares"),
        best_share_diff=("double precision", "highest achieved difficulty"),
        luck=("double precision", "best difficulty over the median for this work"),
        luck_percentile=("double precision", "chance of doing no better with this work"),
    ),
)
def worker_stats_daily(context: dg.AssetExecutionContext, database: Database) -> None:
    """Every worker's day: uptime, rejects by reason, hashrate with its confidence, luck.

    Days whose raw shares were dropped keep the statistics that they have.
    """
    start, end = window(context)
    with database.connect() as connection:
        spans = {f"{span[0]:%F}": span for span in raw_spans(connection, start, end)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        computed = dict(
            zip(spans, pool.map(partial(_compute, database), spans.values()), strict=True)
        )
    with database.connect() as connection:
        settle(connection, "daily", start, end)
    for key in context.partition_keys:
        context.add_asset_metadata(
            {
                **computed.get(key, _summary(worker_stats([]))),
                "raw_shares": "there" if key in computed else "none, or dropped: left alone",
            },
            partition_key=key,
        )


def _compute(database: Database, span: Span) -> dict[str, float | str]:
    """Replaces the statistics of one day, and sums them up; safe to repeat."""
    day = span[0].date()
    with database.connect() as connection:
        rows = connection.execute(
            query(__package__, "stats.sql"), {"start": span[0], "end": span[1]}
        ).fetchall()
        frame = worker_stats(rows)
        # NaN is no value of ours: what is unknown is empty, which is null. pandas writes the
        # same lines in five times the time.
        lines = BytesIO()
        table = pa.Table.from_pandas(frame.assign(day=day)[["day", *COLUMNS]], preserve_index=False)
        csv.write_csv(table, lines, csv.WriteOptions(include_header=False))
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(
                "select pg_advisory_xact_lock(hashtext(%s))", [f"tbg worker stats {day}"]
            )
            cursor.execute("delete from worker_stats_daily where day = %s", [day])
            with cursor.copy(_COPY) as copy:
                copy.write(lines.getvalue())
    return _summary(frame)


def _summary(frame: pd.DataFrame) -> dict[str, float | str]:
    return {
        "dagster/partition_row_count": len(frame),
        "accepted": int(frame["accepted"].sum()),
        "rejected": int(frame["rejected"].sum()),
        "hashrate": (rate := float(frame["hashrate"].sum())),
        "hashrate_text": hashrate(rate),
    }


@dg.asset(
    deps=["workers"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres", "redis"},
    metadata=columns(
        worker_id=("integer", "workers.id"),
        silent_since=("timestamptz", "its last share"),
        marked_at=("timestamptz", "when it was marked offline"),
        expected_gap_seconds=("double precision", "between two shares of its pace"),
        allowed_gap_seconds=("double precision", "that chance explains; 0 after a disconnect"),
        alerted_at=("timestamptz", "when its silence was reported"),
        back_since=("timestamptz", "when it was seen again"),
    ),
)
def worker_liveness(
    context: dg.AssetExecutionContext,
    database: Database,
    redis_server: RedisServer,
    thresholds: Thresholds,
) -> dg.MaterializeResult[None]:
    """Workers that went silent, judged by their own share rate, or disconnected.

    At its hashrate and difficulty a worker has an expected gap between shares; one
    that is silent for 14 of them (chance: one in a million), and never under a
    minute, is marked offline. So an engine restart leaves no ghosts, and a slow
    miner is not called dead. A worker is gone as well when its last connection has said
    disconnect. An alert is sent once it stays offline, and once it is back.
    """
    with database.connect() as connection:
        done = mark_silent(
            connection,
            clock.now(),
            timedelta(seconds=thresholds.liveness_fallback_seconds),
            timedelta(seconds=thresholds.liveness_debounce_seconds),
        )
        counts = connection.execute(
            "select count(*) filter (where is_online) as online, count(*) as workers from workers"
        ).fetchone()
        assert counts is not None
        with redis_server.connect() as client:
            sent = deliver(connection, client, ALERTS_STREAM)
    for name in done.marked_offline[:100]:
        context.log.info("offline: %s", name)
    for text in done.not_judged[:100]:
        context.log.error("not judged: %s", text)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": counts["workers"],
            "online": counts["online"],
            "marked_offline": len(done.marked_offline),
            "disconnected": done.disconnected,
            "not_judged": len(done.not_judged),
            "reported_offline": done.alerted,
            "told_back": done.recovered,
            "messages_sent": len(sent),
        },
        # The table is kept up to date: a look makes nothing stale that was computed after it.
        data_version=dg.DataVersion("kept up to date"),
    )
