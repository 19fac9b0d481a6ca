"""Watches whether Redis may throw streams away, and whether it did."""

import redis.asyncio as redis
import structlog

from ingest import metrics
from tbg_core.redis_server import Guard

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.eviction")


class Eviction:
    """Judges Redis, and says so for each rise of the count of evicted keys.

    Args:
        client: may ask for INFO.
        guard: the session's.
    """

    def __init__(self, client: redis.Redis, guard: Guard) -> None:
        self._client = client
        self._guard = guard
        self._evicted = 0

    async def look(self) -> None:
        """Asks Redis.

        Raises:
            RedisError, OSError: Redis cannot be used, or is away.
        """
        about = await self._guard.look(self._client)
        if about is None:
            return
        metrics.EVICTED_KEYS.set(about.evicted)
        if about.evicted > self._evicted:
            log.error(
                "redis has evicted keys: events that were not committed may be lost, and show "
                "as missing in tbg ledger",
                policy=about.policy,
                keys=about.evicted - self._evicted,
                since_start=about.evicted,
            )
        self._evicted = about.evicted
