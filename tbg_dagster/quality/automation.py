"""When the checks run."""

import dagster as dg

# These compare whole days of raw shares: they run with what they check, once an hour,
# a day or a week.
WITH_THEIR_ASSET = ("hours_equal_raw_shares", "days_equal_hours", "weeks_equal_hours")

QUALITY = dg.define_asset_job(
    "quality",
    selection=dg.AssetSelection.all_asset_checks()
    - dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("shares_hourly"), WITH_THEIR_ASSET[0]),
        dg.AssetCheckKey(dg.AssetKey("shares_daily"), WITH_THEIR_ASSET[1]),
        dg.AssetCheckKey(dg.AssetKey("weekly_best_diff"), WITH_THEIR_ASSET[2]),
    ),
    description="Every check that is quick, by itself.",
)
SCHEDULES = [
    dg.ScheduleDefinition(
        name="quality_every_5_minutes",
        job=QUALITY,
        cron_schedule="*/5 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
]
JOBS = [QUALITY]
