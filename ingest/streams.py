"""Reads the Redis streams from stored offsets, in the order of their entry ids."""

import asyncio
from bisect import bisect_left
from operator import attrgetter
from typing import Any, Final, cast

import redis.asyncio as redis
from redis.exceptions import ResponseError

from ingest import metrics
from ingest.entry import START, Entry, id_key
from ingest.names import STREAMS
from ingest.offsets import Positions

# Entries in one answer: Redis does nothing else while it makes one, and 5,000 would keep
# what a receiver adds waiting for eight milliseconds.
AT_ONCE: Final = 1000
_MILLIS: Final = attrgetter("millis")


class Streams:
    """The streams, read in the order of their entry ids.

    One engine numbers the events of all streams together. An entry is given only when
    every other stream has been read up to its id, so that what is still a hole in the
    numbers then is what never reached Redis, and not what has not been read yet. Ids
    compare across streams by their milliseconds alone: the number behind counts the
    entries of one stream.

    Args:
        client: answers must be bytes.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        # Answers as they come: turning every entry into a dictionary of texts would
        # cost more than all the rest of reading.
        for command in ("XREAD", "XINFO STREAM"):
            client.set_response_callback(command, cast(Any, _as_it_came))
        self._cursors: dict[str, str] = dict.fromkeys(STREAMS, START)
        # Entries that were read and lie past what another stream has been read to.
        self._ahead: dict[str, list[Entry]] = {name: [] for name in STREAMS}
        # Streams that may hold more than the last answer brought of them.
        self._unread: set[str] = set()
        # Entries given of each stream since it began.
        self._given: dict[str, int] = dict.fromkeys(STREAMS, 0)

    def seek(self, positions: Positions) -> None:
        """Goes on after these ids, so many entries after each stream's beginning."""
        for stream, (last_id, entries) in positions.items():
            self._cursors[stream] = last_id
            self._given[stream] = entries

    async def last_ids(self) -> dict[str, tuple[str, int]]:
        """Each stream's newest id ever and number of entries ever added."""
        result = {}
        for stream in STREAMS:
            try:
                info = cast(Any, await self._client.execute_command("XINFO STREAM", stream))
            except ResponseError as error:
                if "no such key" not in str(error):
                    raise  # a refusal must not look like a stream that is lost
                result[stream] = (START, 0)
                continue
            if isinstance(info, list):
                info = dict(zip(info[::2], info[1::2], strict=True))
            result[stream] = (info[b"last-generated-id"].decode(), info[b"entries-added"])
        return result

    async def read(self, most: int, linger: float) -> list[Entry]:
        """Waits up to a second for entries, then ``linger`` for more of them.

        Args:
            most: about how many entries; streams that are behind may bring more.
            linger: seconds that a batch may grow before it is given; 0 does
                not wait at all.

        Returns:
            Entries in the order of each stream, none when none came. Whatever was in
            Redis and is as old as the newest of them is among them, or was given before.
        """
        entries = await self._read_on(most, [], block=linger > 0)
        if linger and entries and len(entries) < most:
            await asyncio.sleep(linger)
            entries = await self._read_on(most, entries, block=False)
        return entries

    async def _read_on(self, most: int, entries: list[Entry], *, block: bool) -> list[Entry]:
        """Adds what there is to ``entries``, until they are ``most`` or nothing is left."""
        while True:
            count = min(AT_ONCE, most - len(entries))
            wait = block and not entries and not any(self._ahead.values())
            entries += await self._read_once(count, block=1000 if wait else None)
            if not self._unread or len(entries) >= most:
                return entries

    async def _read_once(self, most: int, block: int | None) -> list[Entry]:
        """Reads up to ``most`` entries of each stream; gives what every stream is read up to."""
        args: list[str | int] = ["COUNT", most]
        if block is not None:
            args += ["BLOCK", block]
        # A stream that is ahead with more behind it can wait. One that was read to its
        # end cannot: what is added to it meanwhile may lie before what others bring.
        asked = [
            name for name, ahead in self._ahead.items()
            if name not in self._unread or not ahead or ahead[0].millis == ahead[-1].millis
        ]  # fmt: skip
        answer = await self._client.execute_command(
            "XREAD", *args, "STREAMS", *asked, *(self._cursors[name] for name in asked)
        )
        self._unread.difference_update(asked)
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        for name, found in pairs:
            if not found:
                continue
            stream = name.decode()
            self._ahead[stream] += [Entry(stream, item[0], item[1]) for item in found]
            self._cursors[stream] = found[-1][0].decode()
            if len(found) >= most:
                self._unread.add(stream)
        return self._complete()

    def _complete(self) -> list[Entry]:
        """Takes the entries before the millisecond that every stream was read to."""
        frontier = min((self._ahead[name][-1].millis for name in self._unread), default=None)
        entries: list[Entry] = []
        for stream, ahead in self._ahead.items():
            upto = len(ahead)
            if frontier is not None:
                upto = bisect_left(ahead, frontier, key=_MILLIS)
            # An entry without fields was deleted meanwhile.
            entries += [entry for entry in ahead[:upto] if entry.fields]
            del ahead[:upto]
            self._given[stream] += upto
        return entries

    async def lag(self) -> dict[str, tuple[int, float]]:
        """How far reading is behind: entries and seconds, by stream.

        Counted from what :meth:`read` has given, because XINFO GROUPS may be wrong after
        a trim. The number of entries is exact once a stream was read to its end.
        """
        result = {}
        for stream, (last_id, added) in (await self.last_ids()).items():
            ahead = self._ahead[stream]
            cursor = ahead[0].id.decode() if ahead else self._cursors[stream]
            if not ahead and id_key(cursor) >= id_key(last_id):
                self._given[stream] = added
                result[stream] = (0, 0.0)
            else:
                entries = added - self._given[stream]
                behind = (id_key(last_id)[0] - id_key(cursor)[0]) / 1000 if cursor != START else 0.0
                result[stream] = (entries, behind)
            metrics.LAG_ENTRIES.labels(stream).set(result[stream][0])
            metrics.LAG_SECONDS.labels(stream).set(result[stream][1])
        return result


def _as_it_came(answer: Any, **_: Any) -> Any:
    return answer
