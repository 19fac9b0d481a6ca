"""The Redis that takes writes now: found when it is needed, and again after an error."""

import asyncio
import contextlib
from time import monotonic
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tbg_core.primary import connect_redis_async

AWAY: Final = (RedisError, OSError, TimeoutError)
SECONDS: Final = 5.0  # that each answer may take
PAUSE: Final = 1.0  # seconds without another look after one that failed


class Primary:
    """A client of one server, of the primary of several, or of a cluster.

    Args:
        url: as REDIS_URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None  # its stubs are of no help with entries
        self._finding = asyncio.Lock()
        self._until = 0.0  # by the monotonic clock

    async def client(self) -> Any:
        """The client, of redis.asyncio.

        Raises:
            RedisError, OSError: no server answers, or none is a primary.
        """
        async with self._finding:
            if self._client is None:
                if monotonic() < self._until:  # a queue of requests waits once, and not each
                    raise RedisConnectionError("it did not answer a moment ago")
                try:
                    self._client = await connect_redis_async(self._url, SECONDS)
                except AWAY:
                    self._until = monotonic() + PAUSE
                    raise
            return self._client

    async def lose(self, client: Any) -> None:
        """This client failed: the next one is looked for, if nobody did so before."""
        if client is not None and client is self._client:
            self._client = None
            with contextlib.suppress(*AWAY):
                await client.aclose()

    async def close(self) -> None:
        """Closes the connections."""
        await self.lose(self._client)
