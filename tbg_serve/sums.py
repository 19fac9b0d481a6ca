"""How much a user or a worker did: from the days that are counted, then hours, then shares.

Each part begins where the one before it ends, so a share counts once whatever the batch side
has computed. Every query goes along an index, and reads a bounded number of rows.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.periods import midnight, monday
from tbg_serve.database import Database, now

DAYS: Final = 7  # today and the six before it: they hold the running week
MOST_SHARES: Final = 100_000
"""Raw shares that are counted at most; past it, what the hours do not hold is left out."""

Whose = Literal["user_id", "worker_id"]


@dataclass
class Day:
    """Sums of a day, UTC. Work is the sum of the accepted shares' difficulty."""

    accepted: int = 0
    rejected: int = 0
    work: float = 0.0
    best: float | None = None

    def add(self, row: Any) -> None:
        """Adds what a query counted."""
        self.accepted += row["accepted"] or 0
        self.rejected += row["rejected"] or 0
        self.work += row["work"] or 0.0
        if row["best"] is not None:
            self.best = max(row["best"], self.best or 0.0)


@dataclass
class Recent:
    """The last seven days of a user or worker.

    Attributes:
        days: by day.
        until: the last share that is counted.
    """

    days: dict[date, Day] = field(default_factory=lambda: defaultdict(Day))
    until: datetime | None = None

    @property
    def work(self) -> float:
        """Of all seven days."""
        return sum(day.work for day in self.days.values())

    def since(self, first: date) -> Day:
        """The sums from a day on."""
        total = Day()
        for day, sums in self.days.items():
            if day >= first:
                total.add(vars(sums))
        return total


def rate_of_7d(work: float) -> float:
    """H/s of the work of today and the six days before, UTC."""
    seconds = now().timestamp() % 86_400 + (DAYS - 1) * 86_400
    return work * HASHES_PER_DIFFICULTY / seconds


def hours_between(first: datetime, last: datetime) -> list[datetime]:
    """Beginnings of the hours of [first, last]."""
    count = int((last - first) / timedelta(hours=1)) + 1
    return [first + timedelta(hours=number) for number in range(count)]


async def recent(database: Database, whose: Whose, number: int) -> Recent:
    """The last seven days of one user or worker."""
    today = now().date()
    days = [today - timedelta(days=back) for back in range(DAYS)]
    found = Recent()
    rows = await database.fetch(_RECENT[whose], number, days, MOST_SHARES + 1)
    raw = sum(row["shares"] or 0 for row in rows)
    for row in rows:
        if row["shares"] is not None and raw > MOST_SHARES:
            continue
        found.days[row["day"]].add(row)
        if row["until"] is not None:
            found.until = max(found.until or row["until"], row["until"])
    if found.until is None and found.days:
        found.until = midnight(max(found.days) + timedelta(days=1))
    return found


@dataclass
class Done:
    """What a worker did: in the running week, and its work of the last seven days."""

    sums: Day = field(default_factory=Day)
    work_7d: float = 0.0
    last_share: datetime | None = None

    def add(self, row: Any, until: datetime | None = None) -> None:
        """Adds what a query counted."""
        self.sums.add(row)
        self.work_7d += row["work_7d"] or 0.0
        self.last_share = until or self.last_share


async def by_worker(database: Database, user: int) -> dict[int, Done]:
    """The last days of every worker of a user, by number; who had no share is not in it."""
    today = now().date()
    first = monday(today)
    days = [today - timedelta(days=back) for back in range(DAYS)]
    found: dict[int, Done] = defaultdict(Done)
    begin = days[-1]
    for row in await database.fetch(_WORKERS_DAYS, user, days, first):
        found[row["worker_id"]].add(row)
        begin = max(begin, row["last_day"] + timedelta(days=1))
    hours = hours_between(midnight(begin), now())
    after = midnight(begin) - timedelta(microseconds=1)
    for row in await database.fetch(_WORKERS_HOURS, user, hours, midnight(first)):
        found[row["worker_id"]].add(row, row["until"])
        after = max(after, row["until"])
    rest = await database.fetch(_WORKERS_SHARES, user, after, midnight(first), MOST_SHARES + 1)
    if sum(row["shares"] for row in rest) <= MOST_SHARES:
        for row in rest:
            found[row["worker_id"]].add(row, row["until"])
    return found


def _both(query: str) -> dict[Whose, str]:
    return {
        "user_id": query.replace("WHOSE", "user_id"),
        "worker_id": query.replace("WHOSE", "worker_id"),
    }


# A list of days or hours, not a span: the primary keys begin with the day or hour, and each of
# the list is looked up there. The hours begin after the last day that is counted, and the shares
# after the last one that an hour counts: one at its very moment is in that hour.
_RECENT: Final = _both("""
with days as materialized (
    select day, sum(accepted)::bigint as accepted, sum(rejected)::bigint as rejected,
        sum(least(work, 1e290)) as work, max(best_share_diff) as best
    from worker_stats_daily
    where WHOSE = $1 and day = any($2::date[])
    group by day
),
edge as materialized (
    select coalesce(
        (select max(day) + 1 from days), (select min(day) from unnest($2::date[]) as d (day))
    )::timestamp at time zone 'UTC' as moment
),
hours as materialized (
    select (bucket at time zone 'UTC')::date as day, sum(accepted)::bigint as accepted,
        sum(rejected)::bigint as rejected, sum(least(work, 1e290)) as work,
        max(best_share_diff) as best, max(last_share) as until
    from shares_hourly
    where WHOSE = $1 and bucket = any(
        array(select generate_series((select moment from edge), now(), interval '1 hour'))
    )
    group by 1
),
rest as (
    select (time at time zone 'UTC')::date as day, count(*) as shares,
        count(*) filter (where is_valid) as accepted,
        count(*) filter (where not is_valid) as rejected,
        sum(difficulty) filter (where is_valid) as work,
        max(share_diff) filter (where is_valid) as best,
        max(time) as until
    from (
        select time, is_valid, difficulty, share_diff from served_shares
        where WHOSE = $1 and time < now() + interval '1 day' and time > coalesce(
            (select max(until) from hours),
            (select moment - interval '1 microsecond' from edge)
        )
        limit $3
    ) s
    group by 1
)
select day, accepted, rejected, work, best, null::timestamptz as until, null::bigint as shares
from days
union all
select day, accepted, rejected, work, best, until, null from hours
union all
select day, accepted, rejected, work, best, until, shares from rest
""")
# Each with the sums of the running week, which begins with the last value, and the work of all.
_WORKERS_DAYS: Final = """
select worker_id,
    sum(accepted) filter (where day >= $3)::bigint as accepted,
    sum(rejected) filter (where day >= $3)::bigint as rejected,
    sum(least(work, 1e290)) filter (where day >= $3) as work,
    max(best_share_diff) filter (where day >= $3) as best,
    sum(least(work, 1e290)) as work_7d,
    max(day) as last_day
from worker_stats_daily
where user_id = $1 and day = any($2::date[])
group by worker_id
"""
_WORKERS_HOURS: Final = """
select worker_id,
    sum(accepted) filter (where bucket >= $3)::bigint as accepted,
    sum(rejected) filter (where bucket >= $3)::bigint as rejected,
    sum(least(work, 1e290)) filter (where bucket >= $3) as work,
    max(best_share_diff) filter (where bucket >= $3) as best,
    sum(least(work, 1e290)) as work_7d,
    max(last_share) as until
from shares_hourly
where user_id = $1 and bucket = any($2::timestamptz[])
group by worker_id
"""
_WORKERS_SHARES: Final = """
select worker_id, count(*) as shares,
    count(*) filter (where is_valid and time >= $3) as accepted,
    count(*) filter (where not is_valid and time >= $3) as rejected,
    sum(difficulty) filter (where is_valid and time >= $3) as work,
    max(share_diff) filter (where is_valid and time >= $3) as best,
    sum(difficulty) filter (where is_valid) as work_7d,
    max(time) as until
from (
    select worker_id, time, is_valid, difficulty, share_diff from served_shares
    where user_id = $1 and time > $2 and time < now() + interval '1 day' limit $4
) s
group by worker_id
"""
