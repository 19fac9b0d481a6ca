"""The pool's work over time, in slots of five minutes and in days.

The rollups are by worker: the sums over a pool of a million are costly. What has passed is
summed once and remembered; a pool that is small is summed every time, so that late shares
show at once.
"""

from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Final

from tbg_core.periods import midnight
from tbg_serve.database import Database, now
from tbg_serve.sums import Day

SLOT: Final = 300  # seconds
SLOTS: Final = 24 * 3600 // SLOT
HOUR_SLOTS: Final = 3600 // SLOT
CHEAP: Final = 0.3  # seconds: what takes less is done again every time
BUDGET: Final = 10.0  # seconds for raw shares; what is older comes from the hours
SECONDS: Final = 60.0  # that one query may take: nobody waits for it
SETTLED: Final = 3 * HOUR_SLOTS  # slots after which late shares of a large pool are not looked for
MOST_DAYS: Final = 400  # of a round


class Series:
    """Work of all workers (sum of accepted difficulty) by time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slots: dict[int, Day] = {}
        self._days: dict[date, float] = {}

    async def day(self) -> dict[int, Day]:
        """The slots of the last 24 hours that have work, by number (Unix time / 300).

        The running slot is among them, and the one that is running off at the other end.
        """
        begun = monotonic()
        last = int(now().timestamp()) // SLOT
        first = last - SLOTS
        known = {slot: sums for slot, sums in self._slots.items() if slot > first}
        found: dict[int, Day] = {}
        until = last + 1
        while until > first:
            since = max(first, (until - 1) // HOUR_SLOTS * HOUR_SLOTS)
            if known and until <= last - SETTLED:
                found |= {slot: sums for slot, sums in known.items() if since <= slot < until}
            elif monotonic() - begun > BUDGET:
                found |= await self._hours(first, until)
                break
            else:
                found |= await self._raw(since, until)
            until = since
        cheap = monotonic() - begun < CHEAP
        self._slots = {} if cheap else found
        return found

    async def _raw(self, first: int, last: int) -> dict[int, Day]:
        rows = await self._database.fetch(_RAW, _moment(first), _moment(last), seconds=SECONDS)
        return {
            row["slot"]: Day(row["accepted"], row["rejected"], row["work"], row["best"])
            for row in rows
        }

    async def _hours(self, first: int, last: int) -> dict[int, Day]:
        """From the hours: the work of each is spread over its slots; the rest is left out."""
        begin = first // HOUR_SLOTS * HOUR_SLOTS
        rows = await self._database.fetch(_HOURS, _moment(begin), _moment(last), seconds=SECONDS)
        found = {}
        for row in rows:
            begin = int(row["bucket"].timestamp()) // SLOT
            for slot in range(max(begin, first), min(begin + HOUR_SLOTS, last)):
                found[slot] = Day(work=row["work"] / HOUR_SLOTS)
        return found

    async def since(self, moment: datetime) -> float:
        """Work from a moment until now: by days where they are whole."""
        today = now().date()
        first_day = moment.date() + timedelta(days=1)
        first_day = max(first_day, today - timedelta(days=MOST_DAYS))
        total = await self._span(moment, min(midnight(first_day), now()))
        day = first_day
        fresh: dict[date, float] = {}
        begun = monotonic()
        while day < today:
            if day not in self._days:
                fresh[day] = await self._span(midnight(day), midnight(day + timedelta(days=1)))
            total += self._days.get(day, fresh.get(day, 0.0))
            day += timedelta(days=1)
        if first_day <= today:
            total += await self._span(midnight(today), now())
        if monotonic() - begun > CHEAP:
            settled = today - timedelta(days=2)
            self._days |= {day: work for day, work in fresh.items() if day < settled}
        return total

    async def _span(self, since: datetime, until: datetime) -> float:
        """Work of a span of less than a day or so: whole days and hours, then raw shares."""
        if since >= until:
            return 0.0
        rows = await self._database.fetch(_SPAN, since, until, seconds=SECONDS)
        return float(rows[0]["work"] or 0.0)


def _moment(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * SLOT, UTC)


_RAW: Final = f"""
select floor(extract(epoch from time) / {SLOT})::bigint as slot,
    count(*) filter (where is_valid) as accepted,
    count(*) filter (where not is_valid) as rejected,
    coalesce(sum(difficulty) filter (where is_valid), 0) as work,
    bounded(max(share_diff) filter (where is_valid)) as best
from served_shares
where time >= $1 and time < $2
group by 1
"""  # noqa: S608  a constant
_HOURS: Final = """
select bucket, sum(least(work, 1e290)) as work
from shares_hourly where bucket >= $1 and bucket < $2 group by bucket
"""
# A day that is counted needs no hours, and hours that are counted no shares. Times that are no
# whole hour are taken from the shares.
_SPAN: Final = """
with edges as (
    select date_bin('1 hour', $1::timestamptz + interval '1 hour' - interval '1 microsecond',
        '2000-01-01Z') as first_hour
),
hours as (
    select sum(least(h.work, 1e290)) as work, max(h.bucket) + interval '1 hour' as until
    from edges e join shares_hourly h on h.bucket >= e.first_hour
        and h.bucket + interval '1 hour' <= $2 and h.bucket < $2
),
rest as (
    select sum(s.difficulty) as work
    from edges e cross join hours h
    join served_shares s on s.is_valid and s.time >= $1 and s.time < $2
        and (s.time < e.first_hour or s.time >= coalesce(h.until, e.first_hour))
)
select coalesce(h.work, 0) + coalesce(r.work, 0) as work from hours h, rest r
"""
