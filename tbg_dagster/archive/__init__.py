"""The archive: days of raw shares and events as Parquet, beyond their retention."""

import dagster as dg

from tbg_dagster.archive import assets, checks, sensors

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    sensors=[sensors.archive_sensor],
)
