"""What starts a look at the node before its time."""

import dagster as dg

from tbg_dagster.resources import Database
from tbg_dagster.sensing import sensor
from tbg_dagster.timetable import CONFIRM_BLOCKS


@sensor(
    job=CONFIRM_BLOCKS.definition,
    minimum_interval_seconds=10,
)
def block_found_sensor(
    _context: dg.SensorEvaluationContext, database: Database
) -> dg.SensorResult | dg.SkipReason:
    """A block found starts a confirmation run at once."""
    with database.connect() as connection:
        [row] = connection.execute("select max(id) as newest from blocks where status = 'found'")
    if row["newest"] is None:
        return dg.SkipReason("no block waits for its first look")
    # The run key lets each newest block start one run; the schedule looks again later.
    return dg.SensorResult([dg.RunRequest(run_key=f"block {row['newest']}")])
