"""The share ledger: every event of every engine, hour by hour."""

import dagster as dg

from tbg_dagster.ledger import assets, checks

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
)
