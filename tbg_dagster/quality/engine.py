"""Checks of the path from the engine to the database."""

import time
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from ingest.names import STREAMS
from tbg_dagster.quality.verdict import ERROR, WARN, verdict
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, RedisServer, Thresholds

# Events of one engine travel in several streams: a gap must outlast this to be one.
SETTLE_SECONDS: Final = 3.0


@dg.asset_check(asset="engine_instances")
def no_sequence_gaps(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """No event of an engine is missing, other than those refused as dead letters.

    ERROR: a number that never arrived is an event that was lost, at the engine's queue,
    at the socket, or past the spool's limit. A gap is reported for some days.
    """
    with database.connect() as connection:
        parameters = {"days": thresholds.gap_days}
        gaps = connection.execute(query(__package__, "gaps.sql"), parameters).fetchall()
        if gaps:
            time.sleep(SETTLE_SECONDS)
            before = {gap["id"] for gap in gaps}
            again = connection.execute(query(__package__, "gaps.sql"), parameters).fetchall()
            gaps = [gap for gap in again if gap["id"] in before]
    lost = sum(gap["missing"] for gap in gaps)
    return verdict(
        lost == 0,
        f"{lost} events missing from {len(gaps)} engine boots"
        + "".join(f"; {gap['instance']}: {gap['missing']}" for gap in gaps[:5]),
        missing=int(lost),
    )


@dg.asset_check(asset="event_streams")
def writers_keep_up(
    database: Database, redis_server: RedisServer, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """The writer commits what arrives.

    Lag is the age of the oldest entry that a writer has not committed. WARN past a
    minute, ERROR past ten: the streams fill Redis meanwhile.
    """
    with database.connect() as connection:
        offsets = connection.execute(
            "select consumer, stream, last_id from stream_offsets"
        ).fetchall()
    worst, name, entries = 0.0, "none", 0
    now = datetime.now(UTC).timestamp()
    with redis_server.connect() as client:
        committed: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        for row in offsets:
            committed.setdefault(row["stream"], []).append(row["last_id"])
        for stream, ids in committed.items():
            # A stream that nobody has read yet lags from its beginning.
            for last_id in ids or ["0-0"]:
                waiting: Any = client.xrange(stream, min=f"({last_id}", count=1)
                if waiting:
                    age = now - int(waiting[0][0].partition("-")[0]) / 1000
                    entries += 1
                    if age > worst:
                        worst, name = age, stream
    severity = ERROR if worst > thresholds.stream_lag_error_seconds else WARN
    return verdict(
        worst <= thresholds.stream_lag_warn_seconds,
        f"the oldest entry not committed is {worst:.0f} s old ({name})",
        severity,
        lag_seconds=worst,
        streams_behind=entries,
    )


@dg.asset_check(asset="dead_letters")
def few_events_are_refused(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """Few events end as dead letters.

    WARN: they are kept with their bytes and nothing else suffers; ERROR at ten times
    the threshold, when an engine speaks another language.
    """
    with database.connect() as connection:
        reasons = connection.execute(
            "select stage, reason, count(*) as letters from dead_letters "
            "where received_at > now() - interval '1 hour' "
            "group by stage, reason order by letters desc"
        ).fetchall()
    total = sum(row["letters"] for row in reasons)
    most = thresholds.dead_letters_per_hour
    return verdict(
        total <= most,
        f"{total} dead letters in the last hour"
        + "".join(f"; {row['stage']} {row['reason']}: {row['letters']}" for row in reasons[:5]),
        ERROR if total > 10 * most else WARN,
        dead_letters=total,
    )


CHECKS = [no_sequence_gaps, writers_keep_up, few_events_are_refused]
