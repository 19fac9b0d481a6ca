"""What the realtime side writes, so that the lineage starts at the miner."""

import dagster as dg

from tbg_dagster.realtime import assets, checks, share_checks

defs = dg.Definitions(
    assets=[assets.observe_realtime],
    asset_checks=dg.load_asset_checks_from_modules([checks, share_checks]),
)
