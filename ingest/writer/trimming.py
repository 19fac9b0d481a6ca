"""Trims committed entries from the streams, and keeps some for other readers."""

from typing import Final

import redis.asyncio as redis
import structlog

from ingest.writer.offsets import Offsets
from tbg_core.entry import START
from tbg_core.names import in_cell

NEARLY_FULL: Final = 0.9  # of maxmemory

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.trimming")


class Trimming:
    """What the writer may trim.

    Args:
        client: of Redis.
        keep: committed entries kept in each stream for other readers.
        cell: whose streams they are.
    """

    def __init__(self, client: redis.Redis, keep: int, cell: str = "") -> None:
        self._client = client
        self._keep = keep
        self._cell = cell

    async def trim(self, offsets: Offsets) -> None:
        """Trims each stream, never past what is committed nor its last committed entry."""
        for stream, marks in offsets.marks.items():
            upto = marks.spare(self._keep, offsets.committed.get(stream, START))
            if upto is not None:
                # MINID keeps the id itself; "~" lets Redis drop whole nodes only.
                key = in_cell(stream, self._cell)
                await self._client.xtrim(key, minid=upto, approximate=True)

    async def relieve(self, offsets: Offsets) -> None:
        """Trims everything committed while Redis is nearly full.

        What is kept for other readers must not keep new events out.
        """
        memory = await self._client.info("memory")
        most = memory["maxmemory"]
        if not most or memory["used_memory"] < NEARLY_FULL * most:
            return
        log.warning("redis is nearly full: trimming what is committed", maxmemory=most)
        for stream, last_id in offsets.committed.items():
            if last_id != START:
                key = in_cell(stream, self._cell)
                await self._client.xtrim(key, minid=last_id, approximate=False)
            offsets.marks[stream].clear()
