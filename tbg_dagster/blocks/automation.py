"""When blocks are looked at."""

import dagster as dg

from tbg_dagster.resources import Database

CONFIRM_BLOCKS = dg.define_asset_job(
    "confirm_blocks",
    selection=dg.AssetSelection.assets("block_confirmations"),
    description="Asks the node about every block that is not final.",
)
ODDS = dg.define_asset_job(
    "odds",
    selection=dg.AssetSelection.assets("network_difficulty", "block_odds"),
    description="The network difficulty, and how long the next block takes.",
)

SCHEDULES = [
    dg.ScheduleDefinition(
        name="confirm_blocks_every_10_minutes",
        job=CONFIRM_BLOCKS,
        cron_schedule="*/10 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    ),
    dg.ScheduleDefinition(
        name="odds_at_07",
        job=ODDS,
        cron_schedule="7 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    ),
]


@dg.sensor(
    job=CONFIRM_BLOCKS,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def block_found_sensor(
    _context: dg.SensorEvaluationContext, database: Database
) -> dg.SensorResult | dg.SkipReason:
    """A block found starts a confirmation run at once."""
    with database.connect() as connection:
        row = connection.execute(
            "select max(id) as newest, count(*) as blocks from blocks where status = 'found'"
        ).fetchone()
    assert row is not None
    if row["newest"] is None:
        return dg.SkipReason("no block waits for its first look")
    # The run key lets each newest block start one run; the schedule looks again later.
    return dg.SensorResult([dg.RunRequest(run_key=f"block {row['newest']}")])


JOBS = [CONFIRM_BLOCKS, ODDS]
SENSORS = [block_found_sensor]
