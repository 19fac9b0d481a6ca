"""What was missed is made up: ticks, failed runs, and shares that came late."""

import dagster as dg

from tbg_dagster.catch_up import first_runs, sensors

defs = dg.Definitions(
    sensors=[
        sensors.missing_partitions_sensor,
        sensors.late_shares_sensor,
        first_runs.first_runs_sensor,
    ],
)
