"""When the ledger's hours are closed."""

import dagster as dg

CLOSE_LEDGER = dg.define_asset_job(
    "close_ledger",
    selection=dg.AssetSelection.assets("share_ledger"),
    description="The ledger of the hour that has closed.",
)
SCHEDULES = [
    dg.build_schedule_from_partitioned_job(
        CLOSE_LEDGER,
        name="close_ledger_at_04",
        minute_of_hour=4,
        description="Four minutes past the hour, UTC.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
]
JOBS = [CLOSE_LEDGER]
