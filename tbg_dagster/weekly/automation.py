"""When the week is reset."""

import dagster as dg

WEEKLY_RESET = dg.define_asset_job(
    "weekly_reset",
    # The check of the running week's leaderboard belongs to the quality job.
    selection=dg.AssetSelection.assets("weekly_best_diff", "weekly_leaderboard"),
    description="The result of the week that has closed, checked, then told once.",
)

SCHEDULES = [
    dg.build_schedule_from_partitioned_job(
        WEEKLY_RESET,
        name="weekly_reset_on_monday_at_0005",
        hour_of_day=0,
        minute_of_hour=5,
        day_of_week=1,
        description="Monday 00:05 UTC.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
]
JOBS = [WEEKLY_RESET]
