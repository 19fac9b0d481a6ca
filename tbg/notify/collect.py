"""News that no batch run posts: found blocks, bests, the digest's hour.

The rows themselves are the news, committed by the writer in one transaction with the
shares, so no trigger stands in its path. Each look posts what is new to the outbox; the key
(and the mark, in the same transaction) makes that exactly once, also for two notifiers.
"""

from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from ingest.names import week_start
from tbg_dagster.outbox import NOTIFY, post

# What happened longer ago is history: an import, or a notifier that was off.
FRESH: Final = timedelta(days=1)
# A user's bests follow each other quickly at first: the next message waits.
BETWEEN_BESTS: Final = timedelta(minutes=10)
# So many shares make a best worth telling: before them, each is a record by chance.
ENOUGH_SHARES: Final = 100
# The leaderboard of a week that has just begun changes with every share.
WEEK_SETTLES: Final = timedelta(hours=1)

_BLOCKS: Final[LiteralString] = """
select b.block_hash, b.block_height, b.reward_sats, b.found_at, b.source,
    u.btc_address, w.worker_name
from blocks b
join users u on u.id = b.user_id
join workers w on w.id = b.worker_id
where b.found_at > %(now)s - %(fresh)s
  and not exists (
      select from outbox o where o.key = 'notify block_found ' || b.block_hash
  )
order by b.found_at
"""

# Users whose best of this week has changed since it was last looked at.
_BESTS: Final[LiteralString] = """
with week as (
    select w.*, rank() over (order by best_difficulty desc, best_share_time) as place
    from weekly_best_diff w
    where week_start = %(week)s
)
select
    w.user_id, u.btc_address, k.worker_name, w.best_difficulty, w.best_share_time, w.place,
    encode(w.best_share_hash, 'hex') as hash,
    chance_of(w.best_difficulty, t.total_work) as chance,
    t.total_shares + coalesce(o.shares, 0) as shares,
    o.best as before,
    m.value, m.told_at
from week w
-- Of the few whose best has changed.
cross join lateral (
    select * from weekly_standings s where s.user_id = w.user_id and s.week_start = w.week_start
) t
join users u on u.id = w.user_id
left join workers k on k.id = w.best_worker_id
left join alert_marks m on m.subject = 'best:' || w.user_id
left join lateral (
    select max(best_difficulty) as best, sum(total_shares)::bigint as shares
    from weekly_standings x
    where x.user_id = w.user_id and x.week_start < w.week_start
) o on true
where m.value is null
   or m.value ->> 'week' <> %(week)s::text
   or (m.value ->> 'best')::double precision < w.best_difficulty
order by w.best_difficulty
"""

_MARK: Final[LiteralString] = """
insert into alert_marks (subject, value, told_at) values (%s, %s, %s)
on conflict (subject) do update set value = excluded.value, told_at = excluded.told_at
"""


def collect(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    """Posts what is new, and returns how many messages."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('tbg notify collect'))")
        return _blocks(connection, now) + _bests(connection, now) + _digest(connection, now)


def _blocks(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    rows = connection.execute(_BLOCKS, {"now": now, "fresh": FRESH}).fetchall()
    return sum(
        post(
            connection,
            f"{NOTIFY}block_found",
            f"notify block_found {row['block_hash']}",
            {
                "user": row["btc_address"],
                "worker": row["worker_name"],
                "height": row["block_height"],
                "hash": row["block_hash"],
                "reward_sats": row["reward_sats"],
                "at": row["found_at"].isoformat(),
            },
            row["source"],
        )
        for row in rows
    )


def _bests(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    week = week_start(now)
    began = now - timedelta(days=now.weekday())
    young = now - began.replace(hour=0, minute=0, second=0, microsecond=0) < WEEK_SETTLES
    leader = connection.execute(
        "select value ->> 'user' as user from alert_marks where subject = %s", [f"leader:{week}"]
    ).fetchone()
    posted = 0
    for row in connection.execute(_BESTS, {"week": week}).fetchall():
        mark = row["value"] or {}
        waits = mark.get("told") and now - row["told_at"] < BETWEEN_BESTS
        if waits:
            continue  # what is the best then is told then
        kinds = _kinds(row, mark, week.isoformat(), young=young)
        leads = row["place"] == 1 and (leader is None or leader["user"] != row["btc_address"])
        if leads and not young:
            connection.execute(_MARK, [f"leader:{week}", Jsonb({"user": row["btc_address"]}), now])
            # The first of a week has overtaken nobody.
            if leader is not None:
                kinds.append("leader")
        fresh = now - row["best_share_time"] < FRESH
        told = bool(kinds) and fresh
        if told:
            posted += post(
                connection, f"{NOTIFY}best", _key(row, week.isoformat()), _news(row, kinds)
            )
        value = {"week": week.isoformat(), "best": row["best_difficulty"], "place": row["place"]}
        when = now if told or row["told_at"] is None else row["told_at"]
        value["told"] = told or bool(mark.get("told"))
        connection.execute(_MARK, [f"best:{row['user_id']}", Jsonb(value), when])
    return posted


def _kinds(row: dict[str, Any], mark: dict[str, Any], week: str, *, young: bool) -> list[str]:
    """What a changed best is worth telling as."""
    if row["shares"] < ENOUGH_SHARES:
        return []
    if row["best_difficulty"] > (row["before"] or 0.0):
        # Of a user of whom nothing was ever looked at, this may be an old best.
        return ["best_alltime"] if mark else []
    if young or mark.get("week") != week:
        return []
    # Only if it changes the user's rank, or the leaderboard's top.
    return ["best_week"] if row["place"] < mark["place"] or row["place"] == 1 else []


def _key(row: dict[str, Any], week: str) -> str:
    return f"notify best {row['user_id']} {week} {row['best_difficulty']!r}"


def _news(row: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    return {
        "kinds": kinds,
        "user": row["btc_address"],
        "worker": row["worker_name"],
        "best": row["best_difficulty"],
        "rank": row["place"],
        "chance": row["chance"],
        "hash": row["hash"],
        "at": row["best_share_time"].isoformat(),
    }


def _digest(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    """The digest of the day that has closed, once its statistics are there."""
    row = connection.execute(
        "select max(day) as day from worker_stats_daily where day = %s",
        [now.date() - timedelta(days=1)],
    ).fetchone()
    if row is None or row["day"] is None:
        return 0
    day = row["day"].isoformat()
    return int(
        post(connection, f"{NOTIFY}daily_digest", f"notify daily_digest {day}", {"day": day})
    )
