"""News that no batch run posts: found blocks, bests, the digest's hour.

The rows themselves are the news, committed by the writer in one transaction with the
shares, so no trigger stands in its path. Each look posts what is new to the outbox; the key
(and the mark, in the same transaction) makes that exactly once, also for two notifiers.
"""

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tbg_core.messages import NOTIFY, BestNews, BlockNews, DigestNews
from tbg_core.names import week_start
from tbg_core.outbox import post

# What happened longer ago is history: an import, or a notifier that was off.
FRESH: Final = timedelta(days=1)
# A user's first bests come in quick succession: this time lies between two messages.
BETWEEN_BESTS: Final = timedelta(minutes=10)
# Shares. With fewer, each best is a record by chance, and not worth a message.
ENOUGH_SHARES: Final = 100
# The leaderboard of a week that has just begun changes with every share.
WEEK_SETTLES: Final = timedelta(hours=1)
# A look takes the last while of the engines' bests, and the whole day at times, for those
# that came late.
LATELY: Final = timedelta(minutes=15)
WHOLE_DAY_EVERY: Final = timedelta(minutes=5)
# Users in one look, which is every two seconds: those whose best changed, and new ones.
MOST_BESTS: Final = 200
MOST_UNKNOWN: Final = 10_000

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
    select w.user_id, w.week_start, bounded(w.best_difficulty) as best_difficulty,
        w.best_share_time, w.best_worker_id, w.best_share_hash,
        rank() over (order by best_difficulty desc, best_share_time) as place
    from weekly_best_diff w
    where week_start = %(week)s
),
-- Of these alone the totals are added up.
changed as materialized (
    select w.*, m.value, m.told_at
    from week w
    left join alert_marks m on m.subject = 'best:' || w.user_id
    where (m.value ->> 'week' = %(week)s::text
           and (m.value ->> 'best')::double precision < w.best_difficulty
           and not (coalesce((m.value ->> 'told')::boolean, false)
                    and m.told_at > %(now)s - %(between)s))
       or (not %(closed)s and m.value ->> 'week' is distinct from %(week)s::text)
    order by w.best_difficulty
    limit %(most)s
)
select
    w.user_id, u.btc_address, w.best_worker_id, k.worker_name,
    w.best_difficulty, w.best_share_time, w.place,
    encode(w.best_share_hash, 'hex') as hash,
    exists (
        select from blocks b where b.block_hash = encode(w.best_share_hash, 'hex')
    ) as is_block,
    chance_of(w.best_difficulty, t.total_work) as chance,
    t.total_shares + coalesce(o.shares, 0) as shares,
    o.best as before,
    w.value, w.told_at
from changed w
cross join lateral (
    select * from weekly_standings s where s.user_id = w.user_id and s.week_start = w.week_start
) t
join users u on u.id = w.user_id
left join workers k on k.id = w.best_worker_id
left join lateral (
    select max(best_difficulty) as best, sum(total_shares)::bigint as shares
    from weekly_standings x
    where x.user_id = w.user_id and x.week_start < w.week_start
) o on true
order by w.best_difficulty
"""
# Users of whom nothing was ever looked at: what they have is old news, but for the lead.
_UNKNOWN: Final[LiteralString] = """
insert into alert_marks (subject, value, told_at)
select 'best:' || w.user_id,
    jsonb_build_object(
        'week', %(week)s::text, 'best', bounded(w.best_difficulty), 'place', w.place, 'told', false
    ),
    %(now)s
from (
    select w.*, rank() over (order by best_difficulty desc, best_share_time) as place
    from weekly_best_diff w
    where week_start = %(week)s
) w
where w.place > 1
  and not exists (select from alert_marks m where m.subject = 'best:' || w.user_id)
limit %(most)s
on conflict do nothing
"""

# What a worker ever did. Its best is in the rollups, and in its user's weeks; or among the bests
# that its engine sent and the shares of the last two days, should the rollups be late. What is
# older and not rolled up is not looked for: it would be read from every chunk. One row.
_RECORD: Final[LiteralString] = """
with late as (
    select coalesce(
        (select told_at from alert_marks where subject = 'worker bests'), now()
    ) - interval '2 days' as since
),
edge as (
    select greatest(coalesce(max(bucket) + interval '1 hour', '-infinity'),
        (select since from late)) as raw
    from shares_hourly where worker_id = %(worker)s
)
select
    greatest(max(p.best), (
        select max((e.payload ->> 'new_best_diff')::double precision)
        from workers w
        join users u on u.id = w.user_id
        join mining_events e on e.payload ->> 'user' = u.btc_address
            and e.payload ->> 'worker' = w.worker_name
        where w.id = %(worker)s and e.event = 'share_best_diff'
          and e.time >= (select since from late)
    ), (
        select max(b.best_difficulty)
        from workers w
        join weekly_best_diff b on b.user_id = w.user_id and b.best_worker_id = w.id
        where w.id = %(worker)s
    ), 0) as best,
    coalesce(sum(p.shares), 0)::bigint as shares,
    chance_of(%(best)s, coalesce(sum(p.work), 0)) as chance
from (
    select best_share_diff as best, accepted as shares, work
    from shares_hourly
    where worker_id = %(worker)s
    union all
    select s.share_diff, 1, s.difficulty
    from shares s
    where s.worker_id = %(worker)s and s.time >= (select raw from edge) and s.is_valid
) p
"""

# Workers that broke their session's best, as every best of a worker does. A share that is
# its user's best of the week is sent with the user's.
_BROKEN: Final[LiteralString] = """
with broken as (
    select distinct on (1, 2)
        payload ->> 'user' as btc_address, payload ->> 'worker' as worker_name,
        (payload ->> 'new_best_diff')::double precision as best, time,
        payload ->> 'hash' as hash
    from mining_events
    where event = 'share_best_diff' and time > %(since)s and time <= %(now)s
    order by 1, 2, 3 desc, time
)
select b.*, w.id as worker_id, m.value, m.told_at
from broken b
join users u using (btc_address)
join workers w on w.user_id = u.id and w.worker_name = b.worker_name
join weekly_best_diff k on k.user_id = u.id and k.week_start = date_trunc('week', b.time, 'UTC')::date
left join alert_marks m on m.subject = 'worker best:' || w.id
where k.best_difficulty > b.best
  and (m.value is null or (m.value ->> 'best')::double precision < b.best)
order by b.best
"""

_MARK: Final[LiteralString] = """
insert into alert_marks (subject, value, told_at) values (%s, %s, %s)
on conflict (subject) do update set value = excluded.value, told_at = excluded.told_at
"""


def collect(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    """Posts what is new, and returns how many messages.

    Each kind in a transaction of its own, and of bests only so many: a found block waits for
    none of them.
    """
    posted = 0
    for look in (_blocks, _bests, _worker_bests, _digest):
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(hashtext('tbg notify collect'))")
            posted += look(connection, now)
    return posted


def _blocks(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    rows = connection.execute(_BLOCKS, {"now": now, "fresh": FRESH}).fetchall()
    return sum(
        post(
            connection,
            f"{NOTIFY}block_found",
            f"notify block_found {row['block_hash']}",
            BlockNews(
                user=row["btc_address"],
                worker=row["worker_name"],
                height=row["block_height"],
                hash=row["block_hash"],
                reward_sats=row["reward_sats"],
                at=row["found_at"].isoformat(),
            ),
            row["source"],
        )
        for row in rows
    )


def _bests(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    week = week_start(now)
    young = week_start(now - WEEK_SETTLES) != week
    # Bests from just before midnight, or that waited then, are still sent.
    closed = (
        _bests_of(connection, now, week - timedelta(weeks=1), young=True, closed=True)
        if young
        else 0
    )
    return closed + _bests_of(connection, now, week, young=young)


def _bests_of(
    connection: psycopg.Connection[DictRow],
    now: datetime,
    week: date,
    *,
    young: bool,
    closed: bool = False,
) -> int:
    """Users' bests of a week; of a closed or a young one, only those of all time."""
    leader = connection.execute(
        "select value ->> 'user' as user from alert_marks where subject = %s", [f"leader:{week}"]
    ).fetchone()
    posted = 0
    if not closed:
        connection.execute(_UNKNOWN, {"week": week, "now": now, "most": MOST_UNKNOWN})
    rows = connection.execute(
        _BESTS,
        {"week": week, "closed": closed, "now": now, "between": BETWEEN_BESTS, "most": MOST_BESTS},
    ).fetchall()
    for row in rows:
        mark = row["value"] or {}
        kinds = _kinds(row, mark, week.isoformat(), young=young)
        leads = row["place"] == 1 and (leader is None or leader["user"] != row["btc_address"])
        if leads and not young:
            connection.execute(_MARK, [f"leader:{week}", Jsonb({"user": row["btc_address"]}), now])
            # The first of a week has overtaken nobody.
            if leader is not None:
                kinds.append("leader")
        # Of a user of whom nothing was looked at, nothing is compared.
        record: Mapping[str, Any] = (
            _record(connection, row["best_worker_id"], row["best_difficulty"])
            if mark
            else {"chance": None, "best": math.inf, "shares": 0}
        )
        if mark and record["best"] <= row["best_difficulty"] and record["shares"] >= ENOUGH_SHARES:
            kinds.append("best_worker")
        fresh = now - row["best_share_time"] < FRESH
        told = bool(kinds) and fresh
        if told:
            posted += post(
                connection,
                f"{NOTIFY}best",
                f"notify best {row['user_id']} {week} {row['best_difficulty']!r}",
                _news(row, kinds, record),
            )
        value = {"week": week.isoformat(), "best": row["best_difficulty"], "place": row["place"]}
        when = now if told or row["told_at"] is None else row["told_at"]
        value["told"] = told or bool(mark.get("told"))
        connection.execute(_MARK, [f"best:{row['user_id']}", Jsonb(value), when])
    return posted


def _kinds(row: dict[str, Any], mark: dict[str, Any], week: str, *, young: bool) -> list[str]:
    """The kinds of message that a changed best is worth."""
    if row["shares"] < ENOUGH_SHARES:
        return []
    if row["best_difficulty"] > (row["before"] or 0.0):
        # Of a user of whom nothing was ever looked at, this may be an old best.
        return ["best_alltime"] if mark else []
    if young or mark.get("week") != week:
        return []
    # Only if it changes the user's rank, or the leaderboard's top.
    return ["best_week"] if row["place"] < mark["place"] or row["place"] == 1 else []


def _record(connection: psycopg.Connection[DictRow], worker: int | None, best: float) -> DictRow:
    """A worker's best, its shares, and the chance of doing as well with its work."""
    row = connection.execute(_RECORD, {"worker": worker, "best": best}).fetchone()
    assert row is not None
    return row


def _worker_bests(connection: psycopg.Connection[DictRow], now: datetime) -> int:
    """Bests of all time of workers whose user has done better."""
    looked = connection.execute(
        "select value ->> 'first' as first, told_at from alert_marks where subject = 'worker bests'"
    ).fetchone()
    # What was there before the first look is history.
    first = datetime.fromisoformat(looked["first"]) if looked else now
    whole = looked is None or now - looked["told_at"] >= WHOLE_DAY_EVERY
    if whole:
        connection.execute(_MARK, ["worker bests", Jsonb({"first": first.isoformat()}), now])
    since = max(first, now - (FRESH if whole else LATELY))
    posted = 0
    for row in connection.execute(_BROKEN, {"since": since, "now": now}).fetchall():
        if row["told_at"] and now - row["told_at"] < BETWEEN_BESTS:
            continue  # too soon after the last message: a later look sends the best
        record = _record(connection, row["worker_id"], row["best"])
        told = record["best"] <= row["best"] and record["shares"] >= ENOUGH_SHARES
        if told:
            posted += post(
                connection,
                f"{NOTIFY}best",
                f"notify best of worker {row['worker_id']} {row['best']!r}",
                BestNews(
                    kinds=["best_worker"],
                    user=row["btc_address"],
                    worker=row["worker_name"],
                    best=row["best"],
                    chance=record["chance"],
                    hash=row["hash"],
                    at=row["time"].isoformat(),
                ),
            )
        best = max(row["best"], record["best"])
        when = now if told else row["told_at"] or now - BETWEEN_BESTS
        connection.execute(_MARK, [f"worker best:{row['worker_id']}", Jsonb({"best": best}), when])
    return posted


def _news(row: dict[str, Any], kinds: list[str], record: Mapping[str, Any]) -> BestNews:
    return BestNews(
        kinds=kinds,
        user=row["btc_address"],
        worker=row["worker_name"],
        best=row["best_difficulty"],
        rank=row["place"],
        chance=record["chance"] if kinds == ["best_worker"] else row["chance"],
        hash=row["hash"],
        is_block=row["is_block"],
        at=row["best_share_time"].isoformat(),
    )


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
        post(connection, f"{NOTIFY}daily_digest", f"notify daily_digest {day}", DigestNews(day=day))
    )
