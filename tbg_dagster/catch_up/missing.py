"""Closed partitions that were never computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from tbg_dagster.partitions import DAILY, DAY, FIRST_MOMENT, HOUR, HOURLY, WEEK, WEEKLY
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import rollup_of

# When a partition should be there after it has closed: its schedule, and a while.
GRACE: Final = timedelta(minutes=30)


@dataclass(frozen=True)
class Series:
    """Assets that one job computes per partition of length ``step``."""

    job: str
    assets: tuple[str, ...]
    partitions: dg.TimeWindowPartitionsDefinition
    step: timedelta

    def start_of(self, moment: datetime) -> datetime:
        """Start of the partition that holds ``moment``."""
        return moment - (moment - FIRST_MOMENT) % self.step

    def key_of(self, moment: datetime) -> str:
        """Key of the partition that holds ``moment``."""
        return self.start_of(moment).strftime(self.partitions.fmt)

    def closed(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Starts of the partitions that end after ``since`` and not after ``until``."""
        start = self.start_of(max(since, FIRST_MOMENT))
        while start + self.step <= until:
            yield start
            start += self.step


# In the order in which one needs the other.
ROLLUPS: Final = (
    Series("hourly_rollup", ("shares_hourly",), HOURLY, HOUR),
    Series("daily_rollup", ("shares_daily", "worker_stats_daily"), DAILY, DAY),
    Series("weekly_reset", ("weekly_best_diff", "weekly_leaderboard"), WEEKLY, WEEK),
)
LEDGER: Final = Series("close_ledger", ("share_ledger",), HOURLY, HOUR)
# None of a chain waits for another chain.
CHAINS: Final = (ROLLUPS, (LEDGER,))
SERIES: Final = tuple(series for chain in CHAINS for series in chain)


def begin(connection: Connection, window: timedelta, now: datetime) -> datetime | None:
    """From when on partitions should be there: None while no miner was ever seen.

    As far back as ``window``, as raw shares are kept, and as there were miners.
    """
    days = rollup_of(connection).raw_days(connection)
    row = connection.execute(
        "select least((select min(first_seen) from workers), "
        "(select min(hour) from late_share_hours)) as seen"
    ).fetchone()
    if not days or row is None or row["seen"] is None:
        return None
    oldest = datetime(days[0].year, days[0].month, days[0].day, tzinfo=UTC)
    seen: datetime = row["seen"]
    return max(oldest, seen, now - window)


def missing(
    instance: dg.DagsterInstance, series: Series, since: datetime, now: datetime
) -> list[datetime]:
    """Starts of the partitions since then that should be there and lack one of the assets."""
    there = [instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in series.assets]
    return [
        start
        for start in series.closed(since, now - GRACE)
        if not all(series.key_of(start) in keys for keys in there)
    ]


def neighbours(series: Series, starts: Sequence[datetime], most: int) -> Iterator[list[datetime]]:
    """Splits sorted starts into runs of neighbours, each of at most ``most``."""
    group: list[datetime] = []
    for start in starts:
        if group and (start - group[-1] != series.step or len(group) == most):
            yield group
            group = []
        group.append(start)
    if group:
        yield group
