"""When workers are looked at."""

import dagster as dg

LIVENESS = dg.define_asset_job(
    "liveness",
    selection=dg.AssetSelection.assets("worker_liveness"),
    description="Marks workers offline that went silent without a goodbye.",
)
SCHEDULES = [
    dg.ScheduleDefinition(
        name="liveness_every_5_minutes",
        job=LIVENESS,
        cron_schedule="*/5 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
]
JOBS = [LIVENESS]
