"""Receipts: the roots of every closed hour, from which any miner can check his shares."""

import dagster as dg

from tbg_dagster.receipts import assets, checks

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
)
