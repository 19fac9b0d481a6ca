"""Blocks of ours on their way to final, and how long the next will take."""

import dagster as dg

from tbg_dagster.blocks import assets, checks, sensors

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    sensors=[sensors.block_found_sensor],
)
