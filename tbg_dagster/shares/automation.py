"""When the rollups run."""

import dagster as dg

HOURLY_ROLLUP = dg.define_asset_job(
    "hourly_rollup",
    selection=dg.AssetSelection.assets("shares_hourly"),
    description="The hour that has closed.",
)
DAILY_ROLLUP = dg.define_asset_job(
    "daily_rollup",
    selection=dg.AssetSelection.assets("shares_daily", "worker_stats_daily"),
    description="The day that has closed, and every worker's statistics of it.",
)

SCHEDULES = [
    dg.build_schedule_from_partitioned_job(
        HOURLY_ROLLUP,
        name="hourly_rollup_at_02",
        minute_of_hour=2,
        description="Two minutes past the hour, UTC.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    ),
    dg.build_schedule_from_partitioned_job(
        DAILY_ROLLUP,
        name="daily_rollup_at_0010",
        hour_of_day=0,
        minute_of_hour=10,
        description="00:10 UTC.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    ),
]
JOBS = [HOURLY_ROLLUP, DAILY_ROLLUP]
