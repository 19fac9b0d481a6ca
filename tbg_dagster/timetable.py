"""What runs when, and why: the table from which jobs, schedules and catch-up are made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import dagster as dg

from tbg_dagster.partitions import ARCHIVED, DAILY, HOURLY, WEEKLY, Partitions, last_closed

# What define_asset_job makes: Dagster gives its type no public name.
Definition = Any


@dataclass(frozen=True)
class Job:
    """One row.

    Attributes:
        assets: what it computes, with their checks; the table's last row has none.
        schedule: its schedule's name.
        cron: minute, hour, day, month and weekday, UTC.
        partitions: a tick computes the one that has just closed.
    """

    name: str
    assets: Sequence[str]
    schedule: str
    cron: str
    why: str
    partitions: Partitions | None = None

    @cached_property
    def definition(self) -> Definition:
        """The job, for the code location and for the sensors that ask for it."""
        return self._defined(dg.AssetSelection.assets(*self.assets))

    def _defined(self, selection: dg.AssetSelection) -> Definition:
        return dg.define_asset_job(self.name, selection=selection, description=self.why)

    def checking(
        self, checks: Iterable[dg.AssetsDefinition], observed: dg.AssetsDefinition
    ) -> Definition:
        """A job of all these checks but those that block, and a look at what is observed.

        Those that block run with their asset alone.
        """
        keys = [spec.key for item in checks for spec in item.check_specs if not spec.blocking]
        return self._defined(
            dg.AssetSelection.checks(*keys) | dg.AssetSelection.assets(*observed.keys)
        )

    def scheduled(self, job: Definition) -> dg.ScheduleDefinition:
        """The schedule of this row."""
        return dg.ScheduleDefinition(
            self.schedule,
            job=job,
            cron_schedule=self.cron,
            description=self.why,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            execution_fn=self._tick,
        )

    def _tick(self, context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """What a tick asks for."""
        if self.partitions is None:
            return dg.RunRequest()
        key = last_closed(self.partitions, context.scheduled_execution_time)
        if key is None:
            return dg.SkipReason("the first partition has not closed")
        return dg.RunRequest(partition_key=key)


HOURLY_ROLLUP: Final = Job(
    "hourly_rollup", ["shares_hourly"],
    "hourly_rollup_at_02", "2 * * * *",
    "The hour that has closed.",
    HOURLY,
)  # fmt: skip
DAILY_ROLLUP: Final = Job(
    "daily_rollup", ["shares_daily", "worker_stats_daily"],
    "daily_rollup_at_0010", "10 0 * * *",
    "The day that has closed, and every worker's statistics of it.",
    DAILY,
)  # fmt: skip
WEEKLY_RESET: Final = Job(
    "weekly_reset", ["weekly_best_diff", "weekly_leaderboard"],
    "weekly_reset_on_monday_at_0005", "5 0 * * 1",
    "The result of the week that has closed, checked, then published once.",
    WEEKLY,
)  # fmt: skip
CLOSE_LEDGER: Final = Job(
    "close_ledger", ["share_ledger"],
    "close_ledger_at_04", "4 * * * *",
    "The ledger of the hour that has closed.",
    HOURLY,
)  # fmt: skip
ARCHIVE: Final = Job(
    "archive_days", ["shares_archive"],
    "archive_daily_at_0040", "40 0 * * *",
    "The raw shares and events of the day that has closed, as Parquet.",
    ARCHIVED,
)  # fmt: skip
PUBLISH_ROOTS: Final = Job(
    "publish_roots", ["hour_roots"],
    "publish_roots_at_06", "6 * * * *",
    "The roots of receipts of the hour that has closed.",
    HOURLY,
)  # fmt: skip
CONFIRM_BLOCKS: Final = Job(
    "confirm_blocks", ["block_confirmations"],
    "confirm_blocks_every_10_minutes", "*/10 * * * *",
    "Asks the node about every block that is not final.",
)  # fmt: skip
ODDS: Final = Job(
    "odds", ["network_difficulty", "block_odds"],
    "odds_at_07", "7 * * * *",
    "The network difficulty, and how long the next block takes.",
)  # fmt: skip
LIVENESS: Final = Job(
    "liveness", ["worker_liveness"],
    "liveness_every_5_minutes", "*/5 * * * *",
    "Marks workers offline that went silent without disconnecting.",
)  # fmt: skip
COUNT_ALERTS: Final = Job(
    "count_alerts", ["alert_deliveries"],
    "count_alerts_every_15_minutes", "*/15 * * * *",
    "How many messages each route got, waits for and lost.",
)  # fmt: skip
HOUSEKEEPING: Final = Job(
    "housekeeping", ["raw_partitions", "aged_rows", "dagster_history"],
    "housekeeping_daily_at_0340", "40 3 * * *",
    "Partitions ahead, retention, old rows, old Dagster runs.",
)  # fmt: skip
QUALITY: Final = Job(
    "quality", [],
    "quality_every_5_minutes", "*/5 * * * *",
    "Every check that is quick, by itself, and a look at what the realtime side has written.",
)  # fmt: skip

# In the order in which one needs the other.
ROLLUPS: Final = (HOURLY_ROLLUP, DAILY_ROLLUP, WEEKLY_RESET)
# Without partitions.
FREQUENT: Final = (CONFIRM_BLOCKS, ODDS, LIVENESS, COUNT_ALERTS, HOUSEKEEPING, QUALITY)
JOBS: Final = (*ROLLUPS, CLOSE_LEDGER, PUBLISH_ROOTS, ARCHIVE, *FREQUENT)


def defs(checks: Iterable[dg.AssetsDefinition], observed: dg.AssetsDefinition) -> dg.Definitions:
    """Every job and schedule of the table.

    Args:
        checks: of the whole code location.
        observed: the external assets that are looked at with them.
    """
    jobs = [job.definition if job.assets else job.checking(checks, observed) for job in JOBS]
    schedules = [row.scheduled(job) for row, job in zip(JOBS, jobs, strict=True)]
    return dg.Definitions(jobs=jobs, schedules=schedules)
