"""The batch side: rollups, the weekly reset, block confirmations, data quality.

A Dagster code location (:mod:`tbg_dagster.definitions`), laid out by domain. It
meets the realtime side only in the database and in Redis.
"""

import warnings

# Loud in every process, and about a parameter that we mean to use.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")
