"""Failed runs and failing checks, reported when they begin and when they end; what people got."""

import dagster as dg

from tbg_dagster.alerts import assets, sensors

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    sensors=[sensors.alerts_sensor],
)
