"""Reads the Redis streams from stored offsets, and trims what is committed."""

import asyncio
from collections import deque
from typing import Any, Final, cast

import redis.asyncio as redis
import structlog
from redis.exceptions import ResponseError

from ingest import metrics
from ingest.batch import StreamEntry
from ingest.names import STREAMS

START: Final = "0-0"
# Entries in one answer: Redis does nothing else while it makes one, and 5,000 would keep
# what a receiver adds waiting for eight milliseconds.
AT_ONCE: Final = 1000
NEARLY_FULL: Final = 0.9  # of maxmemory

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.streams")


def id_key(entry_id: str) -> tuple[int, int]:
    """An entry id as numbers that compare as Redis does."""
    millis, _, number = entry_id.partition("-")
    return int(millis), int(number or 0)


class Streams:
    """The streams, read in the order of each.

    Args:
        client: answers must be bytes.
        keep: committed entries kept in each stream for other readers.
    """

    def __init__(self, client: redis.Redis, keep: int) -> None:
        self._client = client
        self._keep = keep
        # Answers as they come: turning every entry into a dictionary of texts would
        # cost more than all the rest of reading.
        for command in ("XREAD", "XINFO STREAM"):
            client.set_response_callback(command, cast(Any, _as_it_came))
        self._cursors: dict[str, str] = dict.fromkeys(STREAMS, START)
        # (id of a commit's last entry, entries of it): what may be trimmed once
        # enough newer ones are committed.
        self._commits: dict[str, deque[tuple[str, int]]] = {name: deque() for name in STREAMS}
        self._added: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._kept: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._floor: dict[str, str] | None = None

    def seek(self, offsets: dict[str, str], entries: dict[str, int]) -> None:
        """Goes on after these ids, so many entries after each stream's beginning."""
        self._cursors.update(offsets)
        self._added.update(entries)

    async def last_ids(self) -> dict[str, tuple[str, int]]:
        """Each stream's newest id ever and number of entries ever added."""
        result = {}
        for stream in STREAMS:
            try:
                info = cast(Any, await self._client.execute_command("XINFO STREAM", stream))
            except ResponseError:  # no such key
                result[stream] = (START, 0)
                continue
            if isinstance(info, list):
                info = dict(zip(info[::2], info[1::2], strict=True))
            result[stream] = (info[b"last-generated-id"].decode(), info[b"entries-added"])
        return result

    async def read(self, most: int, linger: float) -> list[StreamEntry]:
        """Waits up to a second for entries, then ``linger`` for more of them.

        Args:
            most: about how many entries; a stream that is behind may fill it.
            linger: seconds that a batch may grow before it is given; 0 does
                not wait at all.

        Returns:
            Entries in the order of each stream, none when none came.
        """
        if not linger:
            return await self._read_all(most)
        count = min(most, AT_ONCE)
        entries = await self._read_once(count, block=1000)
        if count <= len(entries) < most:
            entries += await self._read_all(most - len(entries))
        if entries and len(entries) < most:
            await asyncio.sleep(linger)
            entries += await self._read_all(most - len(entries))
        return entries

    async def _read_all(self, most: int) -> list[StreamEntry]:
        entries: list[StreamEntry] = []
        while len(entries) < most:
            count = min(AT_ONCE, most - len(entries))
            found = await self._read_once(count, block=None)
            entries += found
            if len(found) < count:
                break
        return entries

    async def _read_once(self, most: int, block: int | None) -> list[StreamEntry]:
        args: list[str | int] = ["COUNT", most]
        if block is not None:
            args += ["BLOCK", block]
        answer = await self._client.execute_command(
            "XREAD", *args, "STREAMS", *self._cursors, *self._cursors.values()
        )
        entries: list[StreamEntry] = []
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        for name, found in pairs:
            stream = name.decode()
            entries += [StreamEntry(stream, item[0], item[1]) for item in found if item[1]]
            if found:
                self._cursors[stream] = found[-1][0].decode()
                self._added[stream] += len(found)
        return entries

    async def lag(self) -> dict[str, tuple[int, float]]:
        """How far reading is behind: entries and seconds, by stream.

        Counted from the positions read, because XINFO GROUPS may be wrong after
        a trim. The number of entries is exact once a stream was read to its end.
        """
        result = {}
        for stream, (last_id, added) in (await self.last_ids()).items():
            cursor = self._cursors[stream]
            if id_key(cursor) >= id_key(last_id):
                self._added[stream] = added
                result[stream] = (0, 0.0)
            else:
                entries = added - self._added[stream]
                behind = (id_key(last_id)[0] - id_key(cursor)[0]) / 1000 if cursor != START else 0.0
                result[stream] = (entries, behind)
            metrics.LAG_ENTRIES.labels(stream).set(result[stream][0])
            metrics.LAG_SECONDS.labels(stream).set(result[stream][1])
        return result

    async def trim(self, committed: dict[str, tuple[str, int]]) -> None:
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
            await self._trim(stream)

    async def _trim(self, stream: str) -> None:
        commits = self._commits[stream]
        upto = None
        while (
            len(commits) > 1
            and self._kept[stream] - commits[0][1] >= self._keep
            and id_key(commits[0][0]) <= id_key(self._bounded(stream, commits[0][0]))
        ):
            upto, gone = commits.popleft()
            self._kept[stream] -= gone
        if upto is not None:
            # MINID keeps the id itself; "~" lets Redis drop whole nodes only.
            await self._client.xtrim(stream, minid=upto, approximate=True)

    def _bounded(self, stream: str, last_id: str) -> str:
        """An id, or what other writers have committed, whichever is lower."""
        if self._floor is None:
            return last_id
        return min(last_id, self._floor.get(stream, START), key=id_key)

    async def hold(self, floor: dict[str, str]) -> None:
        """Trims nothing past these ids from now on: other writers still need it.

        Args:
            floor: what every writer has committed, by stream; what may go and was
                held back is trimmed now.
        """
        self._floor = floor
        for stream in self._commits:
            await self._trim(stream)

    async def relieve(self, committed: dict[str, str]) -> None:
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
        for stream, own in committed.items():
            last_id = self._bounded(stream, own)
            if last_id != START:
                await self._client.xtrim(stream, minid=last_id, approximate=False)
            self._commits[stream].clear()
            self._kept[stream] = 0


def _as_it_came(answer: Any, **_: Any) -> Any:
    return answer
