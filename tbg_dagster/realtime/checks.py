"""Checks of what the realtime side writes, but for the raw shares."""

from datetime import date, datetime, timedelta
from typing import Any, Final

import dagster as dg

from tbg_core.backlog import find_places, waiting
from tbg_core.entry import NUMBER_REUSED
from tbg_core.names import in_cell, leaderboard_key, week_start
from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, RedisServer, Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.standing import found_before, keep
from tbg_dagster.verdict import ERROR, WARN, lasting, verdict

# A block and its share travel in two streams.
TOGETHER: Final = timedelta(minutes=2)
HOUR: Final = timedelta(hours=1)
# How long a share is looked for that solved a block and is none.
REPORTED: Final = timedelta(days=7)
# Of a network: below it nearly every hash is a block, as on regtest.
LEAST_DIFFICULTY: Final = 1e-6
EVER_DAYS: Final = 36_500
MOST_NAMED: Final = 100


# --- The path from the engine to the database ------------------------------------------


@dg.asset_check(asset="engine_instances")
def no_sequence_gaps(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """No event of an engine is missing, other than those refused as dead letters.

    ERROR: a number that never arrived is an event that was lost, at the engine's queue,
    at the socket, or past the spool's limit. A gap is reported for some days; their end is
    no recovery, unless the number came.
    """
    with database.connect() as connection:

        def missing(days: int) -> dict[str, dict[str, Any]]:
            rows = connection.execute(query(__package__, "gaps.sql"), {"days": days}).fetchall()
            return {row["instance"]: row for row in rows}

        gaps = lasting(lambda: missing(thresholds.gap_days))
        before = found_before(connection, "no_sequence_gaps")
        old = set(before).difference(gaps)
        gone = old.intersection(missing(EVER_DAYS)) if old else ()
        standing = keep(connection, "no_sequence_gaps", before, list(gaps)[:MOST_NAMED], gone)
    lost = sum(int(row["missing"]) for row in gaps.values())
    return verdict(
        not gaps,
        f"{counted(lost, 'event')} missing from {counted(len(gaps), 'engine boot')}"
        + "".join(f"; {instance}: {row['missing']}" for instance, row in list(gaps.items())[:5]),
        do="See where they went: tbg ledger; a full queue or spool is in the receiver's log at that time",
        simulated=all(row["source"] == "simulated" for row in gaps.values()),
        missing=lost,
        **standing,
    )


@dg.asset_check(asset="engine_instances")
def clocks_of_engines_are_right(database: Database) -> dg.AssetCheckResult:
    """No hour has events with impossible times that await a decision.

    ERROR: the shares of that engine boot and hour are in no weekly result. Set
    `skewed_hours.decision` to `keep` or `leave out`, and materialise the week again.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "select k.hour, k.kind, coalesce(i.instance, 'no instance') as instance, "
            "coalesce(i.source = 'simulated', false) as simulated "
            "from skewed_hours k left join engine_instances i on i.id = k.instance_id "
            "where k.decision is null order by k.hour desc, instance"
        ).fetchall()
    return verdict(
        not rows,
        f"{counted(len(rows), 'hour waits', 'hours wait')} for a decision"
        + "".join(
            f"; {row['hour']:%F %H}h {row['instance']}: clock {row['kind']}" for row in rows[:5]
        ),
        do="Set skewed_hours.decision to keep or leave out, and materialise the week again (docs/operations.md)",
        simulated=all(row["simulated"] for row in rows),
        undecided=len(rows),
    )


@dg.asset_check(asset="event_streams")
def writers_keep_up(
    database: Database, redis_server: RedisServer, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """The writer of each cell commits what arrives.

    Lag is the age of the oldest entry that a writer has not committed. A cell whose streams are
    in another Redis has what its writer saw there last, and is behind from then on. WARN past a
    minute, ERROR past ten: the streams fill Redis in the meantime.
    """
    with database.connect() as connection, redis_server.connect() as client:
        behind = waiting(find_places(connection), client)
    worst, name = 0.0, "none"
    if behind:
        worst = max((clock.now() - behind[0].since).total_seconds(), 0.0)
        name = in_cell(behind[0].stream, behind[0].cell)
    severity = ERROR if worst > thresholds.stream_lag_error_seconds else WARN
    return verdict(
        worst <= thresholds.stream_lag_warn_seconds,
        f"the oldest entry not committed is {worst:.0f} s old ({name})",
        severity,
        do="See what the writer says: tbg status, then its log; of a cell that is gone: docs/scale.md",
        lag_seconds=worst,
        streams_behind=sum(one.entries > 0 for one in behind),
    )


@dg.asset_check(asset="dead_letters")
def few_events_are_refused(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """Few events end as dead letters, and none because its number is another event's.

    WARN: they are kept with their bytes and nothing else suffers; ERROR at ten times
    the threshold, when an engine speaks another language. One number that was used again
    is enough for a warning: an engine runs under a name that another one had. Letters that
    were replayed do not count.
    """
    with database.connect() as connection:
        reasons = connection.execute(
            "select stage, reason, count(*) as letters from dead_letters "
            "where received_at > now() - interval '1 hour' and replayed_at is null "
            "group by stage, reason order by letters desc"
        ).fetchall()
    total = sum(row["letters"] for row in reasons)
    reused = any(row["reason"] == NUMBER_REUSED for row in reasons)
    most = thresholds.dead_letters_per_hour
    return verdict(
        total <= most and not reused,
        f"{counted(total, 'dead letter')} in the last hour"
        + "".join(f"; {row['stage']} {row['reason']}: {row['letters']}" for row in reasons[:5]),
        ERROR if total > 10 * most else WARN,
        do="Read them: tbg dead-letters list; once the cause is mended: tbg dead-letters replay",
        dead_letters=total,
    )


# --- Blocks and the running week -------------------------------------------------------


@dg.asset_check(asset="blocks")
def blocks_and_their_shares_match(
    database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every block found has its share, and every share that solved a block has its block.

    ERROR: one of the two events was lost. A share without its block is reported for a week.
    """
    now = clock.now()
    with database.connect() as connection:
        [row] = connection.execute(
            query(__package__, "unmatched_blocks.sql"),
            # Shares of the oldest day may be gone before their block's.
            {"start": thresholds.horizon(now) + timedelta(days=1), "end": now - TOGETHER},
        )
    return verdict(
        row["blocks"] == 0 and row["shares"] == 0,
        f"{counted(row['blocks'], 'block')} without a share, "
        f"{counted(row['shares'], 'solving share')} without a block",
        do="See what was lost at that time: tbg ledger; the node knows whether the block is on the chain",
        blocks_without_share=row["blocks"],
        shares_without_block=row["shares"],
    )


@dg.asset_check(asset="blocks")
def solving_shares_are_blocks(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """Every share at or above the network's difficulty is a block that was found.

    Looks at all shares of the last hours, at the valid ones of a week whose users have such a
    best, and again at what was wrong before, for a week. ERROR: a solved block was thrown away,
    or the word of it was lost. WARN if all of them were rejected: a block on a tip that had
    just been replaced may be none. A devnet, whose blocks have a difficulty of their own, and
    imported share logs, which come without blocks, are not judged.
    """
    now = clock.now()
    first = now - REPORTED
    with database.connect() as connection:
        before = found_before(connection, "solving_shares_are_blocks")
        # Rejected ones are in no best: what was wrong before is looked at from its own hour on.
        known = [datetime.fromisoformat(place.partition(" ")[0]) for place in before]
        again = {moment.replace(minute=0, second=0, microsecond=0) for moment in known}
        spans = [(now - timedelta(hours=thresholds.recent_hours), now - TOGETHER)]
        spans += [(hour, hour + HOUR) for hour in again if hour >= first]
        found: dict[str, Any] = {}
        for start, end in spans:
            rows = connection.execute(
                query(__package__, "solving_shares.sql"),
                {
                    "start": start,
                    "end": min(end, now - TOGETHER),
                    "first": first,
                    "week": week_start(first),
                    "least": LEAST_DIFFICULTY,
                },
            )
            found |= {f"{row['time'].isoformat()} {row['share_hash']}": row for row in rows}
        keep(connection, "solving_shares_are_blocks", before, list(found))
    return verdict(
        not found,
        f"{counted(len(found), 'share')} solved a block that nobody reported"
        + "".join(
            f"; {place}: {row['share_diff']:.6g} of {row['network_difficulty']:.6g}"
            + ("" if row["is_valid"] else ", rejected")
            for place, row in sorted(found.items())[:5]
        ),
        ERROR if any(row["is_valid"] for row in found.values()) else WARN,
        do="Look for the block's hash on the chain, and in the engine's log at that time",
        simulated=all(row["simulated"] for row in found.values()),
        shares_without_block=len(found),
    )


@dg.asset_check(asset="live_leaderboard")
def leaderboard_equals_the_running_week(
    database: Database, redis_server: RedisServer
) -> dg.AssetCheckResult:
    """The sorted set in Redis holds what the table of the running week holds.

    WARN: players see a wrong leaderboard; the reset computes from the database.
    """
    week = week_start(clock.now())
    with database.connect() as connection, redis_server.connect() as client:

        def different() -> dict[str, None]:
            table = _bests(connection, week)
            ranked: Any = client.zrange(leaderboard_key(week), 0, -1, withscores=True)
            scores: dict[str, float] = dict(ranked)
            users = sorted(table.keys() | scores.keys())
            return {user: None for user in users if table.get(user) != scores.get(user)}

        users = list(lasting(different))
    return verdict(
        not users,
        f"{counted(len(users), 'user differs', 'users differ')} between table and leaderboard of the week of {week}",
        WARN,
        do="Nothing at first: the writer mends it within a minute; start the writer again if it stays",
        users=users[:10],
    )


def _bests(connection: Connection, week: date) -> dict[str, float]:
    rows = connection.execute(
        "select u.btc_address as user, w.best_difficulty from weekly_best_diff w "
        "join users u on u.id = w.user_id where w.week_start = %s",
        [week],
    )
    return {row["user"]: row["best_difficulty"] for row in rows}
