"""The code location: merges the domains, and defines nothing itself."""

import dagster as dg

from tbg_dagster.first_week import settle

settle()  # before the partitions are imported, which are constants

from tbg_dagster import (  # noqa: E402
    alerts,
    archive,
    blocks,
    catch_up,
    housekeeping,
    ledger,
    realtime,
    receipts,
    shares,
    timetable,
    weekly,
    workers,
)
from tbg_dagster.pages import with_pages  # noqa: E402
from tbg_dagster.resources import (  # noqa: E402
    Archive,
    BitcoinNode,
    Database,
    RedisServer,
    Thresholds,
)
from tbg_dagster.resources.environment import from_environment  # noqa: E402

_domains = dg.Definitions.merge(
    realtime.defs,
    shares.defs,
    ledger.defs,
    receipts.defs,
    weekly.defs,
    blocks.defs,
    workers.defs,
    housekeeping.defs,
    catch_up.defs,
    archive.defs,
    alerts.defs,
)

defs = dg.Definitions.merge(
    dg.Definitions(
        assets=with_pages(_domains.assets or []),
        asset_checks=_domains.asset_checks,
        sensors=_domains.sensors,
    ),
    timetable.defs(_domains.asset_checks or [], realtime.assets.observe_realtime),
    dg.Definitions(
        resources={
            "database": from_environment(Database, "DATABASE_"),
            "redis_server": from_environment(RedisServer, "REDIS_"),
            "bitcoin_node": from_environment(BitcoinNode, "BITCOIN_RPC_"),
            "archive": from_environment(Archive, "ARCHIVE_"),
            "thresholds": from_environment(Thresholds, "TBG_"),
        },
        # A run is a process already; one more for each step costs seconds and gains nothing.
        executor=dg.in_process_executor,
    ),
)
