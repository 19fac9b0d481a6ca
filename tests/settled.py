"""How a test waits: for the effect itself, or until the writer has done all it will do.

:func:`committed` waits for a transaction. Whatever the writer does after it (the
leaderboard, trimming) is there for certain once the writer was stopped.
"""

from typing import Any

import asyncpg
import redis.asyncio as redis_async

from tbg_core.entry import START
from tbg_core.names import STREAMS
from tests.processes import LIMIT, until


async def ends(redis: redis_async.Redis) -> dict[str, str]:
    """The newest id that each stream ever had."""
    found = {}
    for stream in STREAMS:
        if await redis.exists(stream):
            info: dict[Any, Any] = await redis.xinfo_stream(stream)
            last = info["last-generated-id"]
            found[stream] = last.decode() if isinstance(last, bytes) else last
        else:
            found[stream] = START
    return found


async def committed(
    db: asyncpg.Connection,
    redis: redis_async.Redis,
    seconds: float = LIMIT,
) -> None:
    """Waits until the writer has committed all that is in the streams."""

    async def all_of_it() -> bool:
        rows = await db.fetch("select stream, last_id from stream_offsets")
        newest = await ends(redis)
        return bool(rows) and all(row["last_id"] == newest[row["stream"]] for row in rows)

    await until(all_of_it, "everything in the streams is committed", seconds)
