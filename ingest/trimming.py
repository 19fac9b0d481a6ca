"""Trims committed entries from the streams, and keeps some for other readers."""

from collections import deque
from collections.abc import Mapping
from typing import Final

import redis.asyncio as redis
import structlog

from ingest.entry import START
from ingest.names import STREAMS
from ingest.offsets import Positions

NEARLY_FULL: Final = 0.9  # of maxmemory

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.trimming")


class Trimming:
    """What the writer may trim.

    Args:
        client: of Redis.
        keep: committed entries kept in each stream for other readers.
    """

    def __init__(self, client: redis.Redis, keep: int) -> None:
        self._client = client
        self._keep = keep
        # (id of a commit's last entry, entries of it): what may be trimmed once
        # enough newer ones are committed.
        self._commits: dict[str, deque[tuple[str, int]]] = {name: deque() for name in STREAMS}
        self._kept: dict[str, int] = dict.fromkeys(STREAMS, 0)

    async def trim(self, committed: Positions) -> None:
        """Trims each stream, never past what is committed.

        Args:
            committed: last id and number of entries of a commit, by stream.
        """
        for stream, (last_id, count) in committed.items():
            commits = self._commits[stream]
            self._kept[stream] += count
            if commits and commits[-1][1] + count <= self._keep // 64:
                # Small commits count as one: what is remembered stays bounded.
                count += commits.pop()[1]
            commits.append((last_id, count))
            upto = None
            while len(commits) > 1 and self._kept[stream] - commits[0][1] >= self._keep:
                upto, gone = commits.popleft()
                self._kept[stream] -= gone
            if upto is not None:
                # MINID keeps the id itself; "~" lets Redis drop whole nodes only.
                await self._client.xtrim(stream, minid=upto, approximate=True)

    async def relieve(self, committed: Mapping[str, str]) -> None:
        """Trims everything committed while Redis is nearly full.

        What is kept for other readers must not keep new events out.

        Args:
            committed: last committed id by stream.
        """
        memory = await self._client.info("memory")
        most = memory["maxmemory"]
        if not most or memory["used_memory"] < NEARLY_FULL * most:
            return
        log.warning("redis is nearly full: trimming what is committed", maxmemory=most)
        for stream, last_id in committed.items():
            if last_id != START:
                await self._client.xtrim(stream, minid=last_id, approximate=False)
            self._commits[stream].clear()
            self._kept[stream] = 0
