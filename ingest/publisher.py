"""Writes batches of events to the Redis streams.

One batch is one Lua script call: one round trip, all of it or nothing, and a
mark that makes a repeated batch harmless. So a retry after a lost answer adds
nothing twice, also for events that carry no sequence number.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
import redis.asyncio as redis
from redis.asyncio.connection import Connection
from redis.exceptions import NoScriptError, RedisError

from ingest.names import BLOCKS_CHANNEL, DEAD_LETTER_STREAM, EVENT_STREAMS, LEDGER_STREAM

_EVENT_FIELDS: Final = ("event", "timestamp", "source", "instance", "seq", "data")
# The fields of each stream's entries, in their order.
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(EVENT_STREAMS, _EVENT_FIELDS),
    DEAD_LETTER_STREAM: ("event", "stage", "reason", "detail", "instance", "seq", "raw"),
    LEDGER_STREAM: ("report",),
}


def _add(fields: tuple[str, ...]) -> str:
    """Lua that adds one entry of so many fields, whose values begin at ``at``."""
    pairs = ", ".join(f"'{name}', ARGV[at + {index}]" for index, name in enumerate(fields))
    return f"if width == {len(fields)} then call('XADD', key, '*', {pairs})"


_ADD: Final = "\n    else".join(_add(fields) for fields in dict.fromkeys(FIELDS.values()))

# KEYS[1] is the mark, KEYS[2..] the batch's streams. ARGV: the batch's name, then for
# each stream how many values an entry has, how many there are in all, and these. Field
# names stand in the script and not in each call: that is a quarter of its time. A script
# that began below maxmemory is not stopped half-way.
_SCRIPT: Final = f"""
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
local call, at = redis.call, 2
for index = 2, #KEYS do
  local key, width, values = KEYS[index], tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  for at = at, at + values - 1, width do
    {_ADD}
    end
  end
  at = at + values
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 604800)
return 1
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that are published together, under a name that makes it once.

    Attributes:
        mark: the key that remembers the last batch, one per receiver boot.
        name: unlike every other batch of that mark.
        values: by stream, what its entries hold in the order of :data:`FIELDS`, one
            entry after the other.
        events: how many of them are events or dead letters; the rest are reports.
        blocks: JSON for the channel ``blocks:found``.
    """

    mark: str
    name: str
    values: dict[str, list[bytes]]
    events: int
    blocks: list[bytes]


class Publisher:
    """A connection to Redis that publishes batches.

    Args:
        url: redis://, rediss:// or unix://.
        timeout: seconds without an answer until Redis counts as away.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._pool: redis.ConnectionPool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=None,
            max_connections=2,
        )
        self._client = redis.Redis(connection_pool=self._pool)
        self._connection: Connection | None = None
        self._sha = b""

    async def publish(self, batch: Batch) -> None:
        """Publishes a batch, once however often it is tried.

        Raises:
            RedisError: Redis is away or refuses (loading, out of memory, read
                only); the batch may be tried again as it is.
            OSError: the same, from the network.
        """
        try:
            try:
                await self._call(batch)
            except NoScriptError:  # Redis started anew, and forgot the script
                self._sha = b""
                await self._call(batch)
        except (RedisError, OSError, TimeoutError):
            await self.disconnect()
            raise
        for block in batch.blocks:
            await self._client.publish(BLOCKS_CHANNEL, block)

    async def _call(self, batch: Batch) -> None:
        if not self._sha:
            self._sha = (await self._client.script_load(_SCRIPT)).encode()
        if self._connection is None:
            self._connection = cast(Connection, await self._pool.get_connection())
        args: list[bytes] = [
            b"EVALSHA",
            self._sha,
            str(len(batch.values) + 1).encode(),
            batch.mark.encode(),
            *(stream.encode() for stream in batch.values),
            batch.name.encode(),
        ]
        for stream, values in batch.values.items():
            args += (str(len(FIELDS[stream])).encode(), str(len(values)).encode())
            args += values
        # hiredis packs thousands of arguments at once, far cheaper than a
        # pipeline of commands through the client.
        packed = hiredis.pack_command(cast(Any, tuple(args)))  # its stub knows one-tuples only
        await self._connection.send_packed_command(packed)
        await self._connection.read_response()

    async def disconnect(self) -> None:
        """Drops the connection; the next batch makes a new one."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Closes everything."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            await self._pool.release(self._connection)
            self._connection = None
        await self._client.aclose()
        await self._pool.aclose()
