"""Watches whether Redis may throw streams away, and whether it did."""

from typing import Final

import redis.asyncio as redis
import structlog

from ingest import metrics

SAFE_POLICY: Final = "noeviction"

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.eviction")


class Eviction:
    """Says so once for each policy that evicts, and for each rise of the count.

    Args:
        client: may ask for INFO.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._policy = SAFE_POLICY
        self._evicted = 0

    async def look(self) -> None:
        """Asks Redis for its policy and its count.

        Raises:
            RedisError, OSError: Redis refuses, or is away.
        """
        memory = await self._client.info("memory")
        # A policy without a limit evicts nothing.
        policy = str(memory.get("maxmemory_policy", SAFE_POLICY))
        if not memory.get("maxmemory"):
            policy = SAFE_POLICY
        if policy != self._policy:
            self._policy = policy
            if policy != SAFE_POLICY:
                log.error(
                    "redis may evict streams that are not committed: set maxmemory-policy "
                    "noeviction",
                    policy=policy,
                    maxmemory=memory["maxmemory"],
                )
        evicted = int((await self._client.info("stats")).get("evicted_keys", 0))
        metrics.EVICTED_KEYS.set(evicted)
        if evicted > self._evicted:
            log.error(
                "redis has evicted keys: events that were not committed may be lost, and show "
                "as missing in tbg ledger",
                policy=policy,
                keys=evicted - self._evicted,
                since_start=evicted,
            )
        self._evicted = evicted
