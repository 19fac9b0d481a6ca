"""A year of a pool in a minute: at its end, everything equals a count of all raw shares.

What Dagster's jobs and sensors do runs here without Dagster, in the order of a year: hours, days
and weeks, late shares, imports of old logs, days on which nothing runs, the archive and
retention, days that come back, backfills over everything, and a rollup that was spoiled.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tbg_core.flavour import flavour_of
from tbg_core.periods import midnight
from tbg_dagster.archive.day import archive, restore
from tbg_dagster.archive.retention import drop_archived, raw_days
from tbg_dagster.archive.store import Store
from tbg_dagster.catch_up.late_hours import LateHours
from tbg_dagster.late import computing, settle
from tbg_dagster.partitions import DAY, HOUR, WEEK
from tbg_dagster.resources import Thresholds
from tbg_dagster.rollup import recompute, rollup_of
from tbg_dagster.weekly.week import announce, bounds, finalise, lock, ranking, result_of
from tests.tbg_dagster.conftest import Connection, History, last_monday

WEEKS = 52
USERS = ["alice.garage", "alice.attic", "bob.", "carol.1", "dave.x"]
THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Share:
    worker: str
    time: datetime
    difficulty: float
    share_diff: float
    valid: bool

    @property
    def user(self) -> str:
        return self.worker.partition(".")[0]


@dataclass
class Pool:
    """The realtime side, the batch side, and every share that there ever was."""

    connection: Connection
    history: History
    store: Store
    chance: random.Random
    shares: list[Share] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rollup = rollup_of(self.connection)
        self.closed: list[date] = []  # weeks

    # --- Realtime ---

    def submit(self, worker: str, time: datetime) -> None:
        """A share, as the writer stores it: late if its hour was read."""
        share = Share(
            worker,
            time,
            difficulty := self.chance.choice([1000.0, 4096.0]),
            difficulty / (1 - self.chance.random()),
            self.chance.random() > 0.1,
        )
        self.shares.append(share)
        self.history.share(
            worker, time, share.share_diff, difficulty, None if share.valid else "stale"
        )
        hour = time.replace(minute=0, second=0, microsecond=0)
        [row] = self.connection.execute("select read_until from rollup_progress")
        if hour < row["read_until"]:
            self.history.late(hour, 1)
        if share.valid:
            user, number = self.history.worker(worker)
            self.connection.execute(
                "insert into weekly_best_diff as w (user_id, week_start, best_difficulty, "
                "best_share_time, best_worker_id) values (%s, %s, %s, %s, %s) "
                "on conflict (user_id, week_start) do update set "
                "best_difficulty = excluded.best_difficulty, "
                "best_share_time = excluded.best_share_time, "
                "best_worker_id = excluded.best_worker_id "
                "where w.finalized_at is null and w.best_difficulty < excluded.best_difficulty",
                [user, monday_of(time), share.share_diff, time, number],
            )

    # --- Batch ---

    def hours(self, start: datetime, end: datetime) -> None:
        with computing(self.connection, "hourly", start, end):
            recompute(self.connection, start, end)

    def days(self, start: datetime, end: datetime) -> None:
        with computing(self.connection, "daily", start, end):
            self.rollup.refresh_days(self.connection, start, end)
        settle(self.connection, "daily", start, end)

    def week(self, week: date) -> None:
        with computing(self.connection, "weekly", *bounds(week)):
            finalise(self.connection, week)
        with self.connection.transaction():
            lock(self.connection, week)
            announce(self.connection, week, result_of(week, ranking(self.connection, week)))
            settle(self.connection, "weekly", *bounds(week))

    def catch_up(self, now: datetime) -> None:
        """What the sensor of late shares asks for, until it asks for nothing."""
        for _ in range(5):
            late = LateHours.read(self.connection, THRESHOLDS.horizon(now))
            for hour in late.hourly:
                self.hours(hour, hour + HOUR)
            days = {hour.date() for hour in late.daily if midnight(hour.date()) + DAY <= now}
            weeks = {monday_of(hour) for hour in late.weekly} & set(self.closed)
            for day in sorted(days - {hour.date() for hour in late.hourly}):
                self.days(midnight(day), midnight(day) + DAY)
            for week in sorted(weeks - {monday_of(hour) for hour in late.hourly}):
                self.week(week)
            if not late.hourly and not days and not weeks:
                return
        raise AssertionError("late shares are asked for again and again")

    def housekeeping(self, now: datetime) -> list[date]:
        horizon = THRESHOLDS.horizon(now).date()
        past = [day for day in raw_days(self.connection, self.rollup) if day < horizon]
        dropped, held = drop_archived(self.connection, self.rollup, self.store, past)
        # Nothing but what came back may stay.
        assert all("restored" in why for why in held.values()), held
        return dropped


def monday_of(moment: datetime) -> date:
    return (moment - timedelta(days=moment.weekday())).date()


@pytest.fixture
def pool(connection: Connection, history: History, tmp_path: Path) -> Pool:
    # The beginning of the year is the first that anything was read of.
    connection.execute("update rollup_progress set read_until = %s", [last_monday(WEEKS)])
    return Pool(
        connection, history, Store.open(str(tmp_path / "archive")), random.Random(7)
    )  # a simulation


def live_through(pool: Pool, start: datetime) -> None:
    chance = pool.chance
    for number in range(WEEKS):
        monday = start + number * WEEK
        end = monday + WEEK
        computed = monday
        for day in sorted(chance.sample(range(7), 2)):
            for _ in range(6):
                moment = monday + day * DAY + chance.random() * DAY
                pool.submit(chance.choice(USERS), moment)
            # On some days the batch side is away, and makes it up later.
            if chance.random() < 0.7:
                pool.hours(computed, monday + (day + 1) * DAY)
                pool.days(computed, monday + (day + 1) * DAY)
                computed = monday + (day + 1) * DAY
        pool.hours(computed, end)
        pool.days(computed, end)
        if number % 9 == 4:
            # An import of an old log, of a user who was never seen.
            begin = max(start, end - timedelta(days=chance.choice([45, 75, 88])))
            for minute in range(0, 300, 20):
                pool.submit(f"import{number}.rig", begin + minute * timedelta(minutes=1))
        for _ in range(3):
            age = chance.random() * min(timedelta(days=89), end - start)
            pool.submit(chance.choice(USERS), end - age)
        pool.closed.append(monday.date())
        pool.week(monday.date())
        for past in [monday.date() + n * DAY for n in range(7)]:
            if chance.random() < 0.5:
                archive(pool.connection, pool.store, past)
        if number % 13 == 7 and flavour_of(pool.connection) == "postgresql":
            # A person spoils an hour, and computes it again.
            pool.connection.execute(
                "update shares_hourly set shares = shares + 1 where bucket >= %s", [monday]
            )
            pool.hours(monday, end)
        if number % 3 == 1:
            pool.catch_up(end)
        archived = pool.store.days()
        if number % 6 == 3 and archived:
            for back in chance.sample(archived, min(3, len(archived))):
                restore(pool.connection, pool.store, back, timedelta(days=1))
            if number % 12 == 3:
                # A backfill over everything, with whatever days are there.
                pool.hours(start, end)
                pool.days(start, end)
        elif number % 6 == 5:
            pool.connection.execute("update restored_days set keep_until = now()")
        pool.catch_up(end)
        if number % 2:
            pool.housekeeping(end)


def rolled(pool: Pool, view: str) -> dict[tuple[datetime, str], tuple[Any, ...]]:
    rows = pool.connection.execute(
        "select r.bucket, u.btc_address || '.' || w.worker_name as worker, r.shares, r.accepted, "  # noqa: S608  # our own names
        f"round(r.work::numeric, 3)::float8, r.best_share_diff from {view} r "
        "join users u on u.id = r.user_id join workers w on w.id = r.worker_id"
    ).fetchall()
    found = [tuple(row.values()) for row in rows]
    return {(row[0], row[1]): row[2:] for row in found}


def counted(shares: list[Share], step: timedelta) -> dict[tuple[datetime, str], tuple[Any, ...]]:
    groups: dict[tuple[datetime, str], list[Share]] = defaultdict(list)
    for share in shares:
        start = midnight(share.time.date())
        if step == HOUR:
            start = share.time.replace(minute=0, second=0, microsecond=0)
        groups[start, share.worker].append(share)
    return {
        key: (
            len(group),
            sum(share.valid for share in group),
            sum(share.difficulty for share in group if share.valid),
            max((share.share_diff for share in group if share.valid), default=None),
        )
        for key, group in groups.items()
    }


def test_after_a_year_everything_equals_a_count_of_all_raw_shares(pool: Pool) -> None:
    start = last_monday(WEEKS)
    live_through(pool, start)
    now = start + WEEKS * WEEK
    # Most of the year is in the archive alone.
    kept = pool.connection.execute("select count(*) as shares from shares").fetchone()
    assert kept is not None
    assert kept["shares"] < 0.6 * len(pool.shares)

    assert rolled(pool, "shares_hourly") == counted(pool.shares, HOUR)
    assert rolled(pool, "shares_daily") == counted(pool.shares, DAY)

    for week in pool.closed:
        valid = [share for share in pool.shares if share.valid and monday_of(share.time) == week]
        best: dict[str, Share] = {}
        for share in valid:
            if share.user not in best or share.share_diff > best[share.user].share_diff:
                best[share.user] = share
        places = sorted(best.values(), key=lambda share: -share.share_diff)
        rows = ranking(pool.connection, week)
        assert [
            (row["rank"], row["user"], row["best_difficulty"], row["best_share_time"])
            for row in rows
        ] == [
            (place, share.user, share.share_diff, share.time)
            for place, share in enumerate(places, 1)
        ], week
        assert [row["total_shares"] for row in rows] == [
            sum(other.user == share.user for other in valid) for share in places
        ]
        told = pool.connection.execute(
            "select result from weekly_publications where week_start = %s "
            "order by revision desc limit 1",
            [week],
        ).fetchone()
        assert told is not None
        assert [(row["user"], row["best_difficulty"]) for row in told["result"]["top"]] == [
            (share.user, share.share_diff) for share in places[:10]
        ]

    bests = pool.connection.execute(
        "select btc_address, best_difficulty from bests where scope = 'user' and period = 'alltime'"
    ).fetchall()
    assert {row["btc_address"]: row["best_difficulty"] for row in bests} == {
        user: max(s.share_diff for s in pool.shares if s.valid and s.user == user)
        for user in {share.user for share in pool.shares if share.valid}
    }
    # Every raw share is in the database or comes back out of the archive, once.
    for day in pool.store.days():
        restore(pool.connection, pool.store, day)
    found = pool.connection.execute("select btc_address, time from shares_hex").fetchall()
    assert sorted((row["btc_address"], row["time"]) for row in found) == sorted(
        (share.user, share.time) for share in pool.shares
    )
    late = LateHours.read(pool.connection, THRESHOLDS.horizon(now))
    assert (late.hourly, late.daily, late.weekly) == ([], [], [])
