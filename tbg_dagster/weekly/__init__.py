"""The weekly game: who found the best share of the week."""

import dagster as dg

from tbg_dagster.weekly import assets, checks, proof_checks

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks, proof_checks]),
)
