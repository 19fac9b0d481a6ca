"""Shares by the hour and by the day."""

import dagster as dg

from tbg_dagster.shares import assets, checks

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
)
