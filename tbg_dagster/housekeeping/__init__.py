"""What is made ahead and what is thrown away."""

import dagster as dg

from tbg_dagster.housekeeping import assets

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
)
