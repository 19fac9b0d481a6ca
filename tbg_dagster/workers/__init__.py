"""Workers: what each did in a day, and whether it is still there."""

import dagster as dg

from tbg_dagster.workers import assets

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
)
