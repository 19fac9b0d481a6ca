"""What a schedule would compute for the first time in an hour or a day, soon after the start."""

import dagster as dg

from tbg_dagster.resources import Database
from tbg_dagster.sensing import sensor
from tbg_dagster.timetable import FREQUENT, ODDS

JOBS = [job for job in FREQUENT if job.assets]


@sensor(
    jobs=[job.definition for job in JOBS],
    minimum_interval_seconds=60,
)
def first_runs_sensor(
    context: dg.SensorEvaluationContext, database: Database
) -> dg.SensorResult | dg.SkipReason:
    """Runs each job without partitions once, soon after the first start.

    Its schedule may be a day away. The odds wait for the first share.
    """
    every = " ".join(job.name for job in JOBS)
    if context.cursor == every:
        return dg.SkipReason("every job has run once")
    keys = [dg.AssetKey(asset) for job in JOBS for asset in job.assets]
    there = {
        record.asset_entry.asset_key.to_user_string()
        for record in context.instance.get_asset_records(keys)
        if record.asset_entry.last_materialization is not None
    }
    lacking = [job for job in JOBS if not there.issuperset(job.assets)]
    if not lacking:
        context.update_cursor(every)
        return dg.SkipReason("every job has run once")
    if ODDS in lacking:
        with database.connect() as connection:
            [row] = connection.execute(
                "select exists (select from network_blocks) "
                "and exists (select from shares where is_valid) as known"
            )
        if not row["known"]:
            lacking.remove(ODDS)
    if not lacking:
        return dg.SkipReason("the odds wait for the first share")
    # By its key each is asked for once: what fails is its schedule's.
    return dg.SensorResult(
        [
            dg.RunRequest(f"first {job.name}", job_name=job.name, tags={"tbg/why": "first run"})
            for job in lacking
        ]
    )
