"""When the house is kept."""

import dagster as dg

HOUSEKEEPING = dg.define_asset_job(
    "housekeeping",
    selection=dg.AssetSelection.groups("housekeeping"),
    description="Partitions ahead, retention, old rows, old Dagster runs.",
)
SCHEDULES = [
    dg.ScheduleDefinition(
        name="housekeeping_daily_at_0340",
        job=HOUSEKEEPING,
        cron_schedule="40 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
]
JOBS = [HOUSEKEEPING]
