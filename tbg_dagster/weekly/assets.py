"""The weekly reset: the result of a closed week, and the news of it."""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg

from tbg_core.names import WEEKLY_RESET_STREAM
from tbg_core.outbox import deliver
from tbg_core.releases import released
from tbg_core.wording import printable
from tbg_dagster.columns import columns
from tbg_dagster.late import computing, settle
from tbg_dagster.partitions import RETRY, WEEKLY, backfill, window
from tbg_dagster.queries import query
from tbg_dagster.realtime import skew
from tbg_dagster.resources import BitcoinNode, Database, RedisServer, Thresholds
from tbg_dagster.weekly import proof_checks
from tbg_dagster.weekly.completeness import awaited, completeness
from tbg_dagster.weekly.pictures import leaderboard, table, winners
from tbg_dagster.weekly.roots import rests_on
from tbg_dagster.weekly.week import (
    announce,
    bounds,
    finalise,
    freeze,
    lock,
    ranking,
    result_of,
)

GROUP = "weekly"
OWNERS = ["team:game"]
BACKFILL = backfill(WEEKLY)


@dg.asset(
    partitions_def=WEEKLY,
    backfill_policy=BACKFILL,
    retry_policy=RETRY,
    output_required=False,
    deps=["shares", "shares_hourly"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres", "sql"},
    pool="rollup",
    metadata=columns(
        user_id=("integer", "users.id"),
        week_start=("date", "a Monday, UTC"),
        best_difficulty=("double precision", "highest achieved difficulty of a valid share"),
        best_share_time=("timestamptz", "when; the earlier share where two are equal"),
        best_worker_id=("integer", "workers.id"),
        best_share_hash=("bytea", "block header hash of the share"),
        total_shares=("bigint", "valid shares of the week; null while provisional"),
        total_work=("double precision", "sum of their assigned difficulty; null while provisional"),
        finalized_at=("timestamptz", "when this result was reached; null while provisional"),
        rank=("integer", "1 for the winner; ties go to the earlier share"),
    ),
)
def weekly_best_diff(
    context: dg.AssetExecutionContext,
    database: Database,
    redis_server: RedisServer,
    thresholds: Thresholds,
) -> Iterator[dg.MaterializeResult[None]]:
    """**The reset.** Every user's best share of the closed week, from the hours.

    The realtime rows of the running week are provisional; this replaces them by
    what the valid shares say, ranks the users and sets `finalized_at`. The hours give the
    totals and name the hour of the best share, which is looked up there; hours that are not
    proven equal to the raw shares are rebuilt first. Run again, it changes nothing, unless
    late shares have come in. Shares that an engine gave
    an impossible time are left out until a person has decided (table `skewed_hours`).

    While a writer has yet to commit what came before the week's end, the run ends without a
    result, and the week is asked for again: for at most TBG_WEEK_WAIT_HOURS.
    """
    window(context)  # refuses what lies before the first partition
    with database.connect() as connection:
        skew.note(connection)
        weeks = [date.fromisoformat(key) for key in context.partition_keys]
        try:
            with redis_server.connect() as client:
                for week in weeks:
                    if late := awaited(connection, client, thresholds, week):
                        context.log.warning("week %s is asked for again: %s", week, late)
                        return
        except dg.Failure as error:
            # The result needs no Redis. Its news do, and they ask once more.
            context.log.warning("nobody knows whether writers are behind: %s", error.description)
        for week in weeks:
            # Around the rebuilding of hours as well: what comes in meanwhile is still owed.
            with computing(connection, "weekly", *bounds(week)):
                done = finalise(connection, week)
            context.log.info("week %s: %s", week, done)
            context.add_asset_metadata(
                {
                    "dagster/partition_row_count": done.users,
                    "valid_shares": done.shares,
                    "rows_changed": done.changed,
                    "shares_left_out": done.left_out,
                },
                partition_key=week.isoformat(),
            )
        champions = connection.execute(
            query(__package__, "winners.sql"), {"week": weeks[-1]}
        ).fetchall()
    context.add_asset_metadata({"winners": winners(champions)}, partition_key=weeks[-1].isoformat())
    yield dg.MaterializeResult()


@dg.asset(
    partitions_def=WEEKLY,
    backfill_policy=BACKFILL,
    retry_policy=RETRY,
    deps=[weekly_best_diff],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"redis"},
)
def weekly_leaderboard(
    context: dg.AssetExecutionContext,
    database: Database,
    redis_server: RedisServer,
    bitcoin_node: BitcoinNode,
    thresholds: Thresholds,
) -> dg.MaterializeResult[None]:
    """The news of a closed week: published once in `mining:weekly_reset`.

    Week, winner, entrants and the top ten, each with `proven`: whether its proof of work
    holds; `released` where a person let a failing one pass; `complete`: whether every share
    that had come was counted; `roots`: the roots of receipts that it rests on. A week with a proof that fails is not published. Where late shares
    change the result, the new one is published as a `correction` with the next revision;
    otherwise a second run publishes nothing. The week's sorted set is made equal to the result
    and expires; the new week has begun with an empty one.

    The late shares of the week count as taken in once all of this has happened.
    """
    published = {}
    with database.connect() as connection, redis_server.connect() as client:
        for key in context.partition_keys:
            week = date.fromisoformat(key)
            if late := awaited(connection, client, thresholds, week):
                raise dg.Failure(f"week {week} is asked for again: {late}", allow_retries=False)
            # One transaction, the sorted set in it: what fails is undone, and asked for again.
            with connection.transaction():
                lock(connection, week)
                rows = ranking(connection, week)
                cases = proof_checks.publishable(connection, week, thresholds, bitcoin_node)
                result = proof_checks.marked(
                    result_of(week, rows), cases, released(connection, week)
                )
                result |= completeness(connection, client, week)
                result |= rests_on(connection, *bounds(week))
                told = announce(connection, week, result)
                settle(connection, "weekly", *bounds(week))
                keep_until = bounds(week)[1] + timedelta(days=thresholds.leaderboard_keep_days)
                freeze(client, week, rows, keep_until)
            published[week] = told, rows, result
            context.log.info("week %s: %s, %d entrants", week, told, len(rows))
        # What it fails to send waits in the outbox: late_shares_sensor asks for the week again.
        sent = deliver(connection, client, WEEKLY_RESET_STREAM)
    for week, (told, rows, result) in published.items():
        context.add_asset_metadata(
            {
                "picture": leaderboard(rows, week),
                "leaderboard": table(rows),
                "winner": printable(rows[0]["user"]) if rows else "nobody",
                "entrants": len(rows),
                "complete": result["complete"],
                "told": told,
            },
            partition_key=week.isoformat(),
        )
    return dg.MaterializeResult(metadata={"messages_sent": len(sent)})
