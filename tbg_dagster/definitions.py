"""The code location: merges the domains, and defines nothing itself."""

import dagster as dg

from tbg_dagster.alerts import sensors as alerts
from tbg_dagster.blocks import assets as block_assets
from tbg_dagster.blocks import automation as block_automation
from tbg_dagster.catch_up import sensors as catch_up
from tbg_dagster.housekeeping import assets as housekeeping_assets
from tbg_dagster.housekeeping import automation as housekeeping_automation
from tbg_dagster.ledger import assets as ledger_assets
from tbg_dagster.ledger import automation as ledger_automation
from tbg_dagster.quality import automation as quality_automation
from tbg_dagster.quality import engine, game, rollups
from tbg_dagster.quality import shares as share_checks
from tbg_dagster.resources import BitcoinNode, Database, RedisServer, Thresholds, Webhook
from tbg_dagster.resources.environment import from_environment
from tbg_dagster.shares import assets as share_assets
from tbg_dagster.shares import automation as share_automation
from tbg_dagster.upstream import assets as upstream_assets
from tbg_dagster.weekly import assets as weekly_assets
from tbg_dagster.weekly import automation as weekly_automation
from tbg_dagster.workers import assets as worker_assets
from tbg_dagster.workers import automation as worker_automation

_AUTOMATION = (
    share_automation,
    ledger_automation,
    weekly_automation,
    block_automation,
    worker_automation,
    quality_automation,
    housekeeping_automation,
)

defs = dg.Definitions(
    assets=[
        *upstream_assets.ASSETS,
        *share_assets.ASSETS,
        *ledger_assets.ASSETS,
        *weekly_assets.ASSETS,
        *block_assets.ASSETS,
        *worker_assets.ASSETS,
        *housekeeping_assets.ASSETS,
    ],
    asset_checks=[
        *share_checks.CHECKS,
        *engine.CHECKS,
        *rollups.CHECKS,
        *game.CHECKS,
        *ledger_assets.CHECKS,
    ],
    jobs=[job for domain in _AUTOMATION for job in domain.JOBS],
    schedules=[schedule for domain in _AUTOMATION for schedule in domain.SCHEDULES],
    sensors=[*block_automation.SENSORS, *catch_up.SENSORS, *alerts.SENSORS],
    resources={
        "database": from_environment(Database, "DATABASE_"),
        "redis_server": from_environment(RedisServer, "REDIS_"),
        "bitcoin_node": from_environment(BitcoinNode, "BITCOIN_RPC_"),
        "webhook": from_environment(Webhook, "ALERT_WEBHOOK_"),
        "thresholds": from_environment(Thresholds, "TBG_"),
    },
    # A run is a process already; one more for each step costs seconds and wins nothing.
    executor=dg.in_process_executor,
)
