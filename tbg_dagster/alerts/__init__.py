"""Failed runs and failing checks, told once, and once more when they recover."""

import dagster as dg

from tbg_dagster.alerts import sensors

defs = dg.Definitions(
    sensors=[sensors.alerts_sensor],
)
