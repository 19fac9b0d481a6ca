"""What the assets reach for: the database, Redis, the node, the archive, thresholds."""

from tbg_dagster.resources.archive import Archive
from tbg_dagster.resources.bitcoin import BitcoinNode
from tbg_dagster.resources.database import Database
from tbg_dagster.resources.redis_server import RedisServer
from tbg_dagster.resources.thresholds import Thresholds

__all__ = ["Archive", "BitcoinNode", "Database", "RedisServer", "Thresholds"]
