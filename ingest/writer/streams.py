"""Reads the Redis streams from stored offsets, in the order of their entry ids."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, takewhile
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast

import redis.asyncio as redis
import structlog
from redis.exceptions import OutOfMemoryError, ResponseError

from ingest import metrics
from ingest.writer.offsets import Position, Positions
from tbg_core.entry import START, Entry, id_key
from tbg_core.names import IDENTITY_KEY, STREAMS, in_cell
from tbg_core.redis_server import UnusableRedisError, too_old

# Entries in one answer: Redis does nothing else while it makes one, and 5,000 would keep
# what a receiver adds waiting for eight milliseconds.
AT_ONCE: Final = 1000
# Entries of one stream and one millisecond that are held until all of it is read. A clock
# that was set back gives the same millisecond until it is right again.
MOST_OF_A_MILLI: Final = 4000
_MILLIS: Final = attrgetter("millis")


log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.streams")


class End(NamedTuple):
    """A stream's oldest entry, its newest id ever, and how many entries it has and ever had."""

    first: str = START
    last: str = START
    entries: int = 0
    added: int = 0

    def holds_nothing_but(self, committed: str) -> bool:
        """Whether all that comes has a higher id, and nothing is there that has one."""
        return not self.entries and id_key(self.last) >= id_key(committed)


class Streams:
    """The streams, read in the order of their entry ids.

    One engine numbers the events of all streams together. An entry is given only when
    every other stream has been read up to its id, so that what is still a hole in the
    numbers then is what never reached Redis, and not what has not been read yet. Ids
    compare across streams by their milliseconds alone: the number behind counts the
    entries of one stream. Within a millisecond that holds too much to wait for, the events'
    own times decide.

    Args:
        client: answers must be bytes.
        reader: reads the entries, over one connection that it makes once: after another one,
            Redis may not have what was read before. None reads with the client.
        cell: whose streams they are.
    """

    def __init__(
        self, client: redis.Redis, reader: redis.Redis | None = None, cell: str = ""
    ) -> None:
        self._client = redis.Redis(connection_pool=client.connection_pool)
        self._reader = reader or self._client
        # Answers as they come: turning every entry into a dictionary of texts would
        # cost more than all the rest of reading.
        for command in ("XREAD", "XRANGE", "XINFO STREAM"):
            for one in (self._client, self._reader):
                one.set_response_callback(command, cast(Any, _as_it_came))
        self._identity = in_cell(IDENTITY_KEY, cell)
        self._keys = {stream: in_cell(stream, cell) for stream in STREAMS}
        self._names = {key.encode(): stream for stream, key in self._keys.items()}
        self._cursors: dict[str, str] = dict.fromkeys(STREAMS, START)
        # Entries that were read and lie past what another stream has been read to.
        self._ahead: dict[str, list[Entry]] = {name: [] for name in STREAMS}
        # Streams that may hold more than the last answer brought of them.
        self._unread: set[str] = set()
        # Of the last millisecond that was cut, for each stream, and the newest time given of it.
        self._cuts: dict[str, tuple[int, int]] = {}
        # Streams under whose key something else is: nothing is read of them.
        self._foreign: set[str] = set()
        # Entries given of each stream since it began.
        self._given: dict[str, int] = dict.fromkeys(STREAMS, 0)

    def seek(self, positions: Positions) -> None:
        """Goes on after these ids, so many entries after each stream's beginning."""
        for stream, position in positions.items():
            self._cursors[stream] = position.last_id
            self._given[stream] = position.entries

    async def identity(self) -> str | None:
        """The name that this Redis was given; None if it has none, or lost it."""
        try:
            found = cast(bytes | None, await self._client.get(self._identity))
        except ResponseError as error:
            if not is_foreign(error):
                raise
            log.error("the identity of redis cannot be read: remove the key", key=self._identity)
            return None
        return found.decode(errors="replace") if found else None

    async def name(self, name: str) -> str:
        """Gives Redis a name if it has none, and returns the one that it has."""
        try:
            await self._client.set(self._identity, name, nx=True)
        except OutOfMemoryError as error:
            # Only a writer that goes on makes room. The next one finds the name by content.
            log.warning("redis is full and cannot keep its identity", error=str(error))
        return await self.identity() or name

    async def look_up(self, places: Sequence[tuple[str, Position]]) -> list[Position | None]:
        """Which streams hold the very entries of these positions.

        Returns:
            For each place its position, with what is known of its entry; the beginning of a
            stream is always there. None where the stream holds no such entry.
        """
        pipeline = self._client.pipeline(transaction=False)
        for stream, position in places:
            last_id = position.last_id
            pipeline.execute_command("XRANGE", self._keys[stream], last_id, last_id)
        found: list[Position | None] = []
        answers = await pipeline.execute(raise_on_error=False)
        for (stream, position), entries in zip(places, answers, strict=True):
            if isinstance(entries, Exception):
                if not is_foreign(entries):
                    raise entries
                entries = []
            there = [Entry(stream, item[0], item[1]).mark for item in entries]
            if position.last_id == START:
                found.append(position)
            elif there and position.entry in (None, there[0]):
                found.append(position._replace(entry=there[0]))
            else:
                found.append(None)
        return found

    async def ends(self) -> dict[str, End]:
        """What each stream has and had."""
        result = {}
        for stream in STREAMS:
            try:
                key = self._keys[stream]
                info = cast(Any, await self._client.execute_command("XINFO STREAM", key))
            except ResponseError as error:
                if is_foreign(error):
                    self._leave_out(stream)
                elif "no such key" not in str(error):
                    raise  # a refusal must not look like a stream that is lost
                result[stream] = End()
                continue
            self._foreign.discard(stream)
            if isinstance(info, list):
                info = dict(zip(info[::2], info[1::2], strict=True))
            if b"entries-added" not in info:
                raise UnusableRedisError(f"this Redis cannot be used: {too_old()}")
            first = info[b"first-entry"]
            result[stream] = End(
                first[0].decode() if first else START,
                info[b"last-generated-id"].decode(),
                info[b"length"],
                info[b"entries-added"],
            )
        return result

    async def oldest(self, committed: Mapping[str, str]) -> tuple[int, dict[str, int]]:
        """Redis's clock, and when the oldest entry past these ids came, in milliseconds.

        A stream that holds none is not there.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        for stream, last_id in committed.items():
            pipeline.execute_command("XRANGE", self._keys[stream], f"({last_id}", "+", "COUNT", 1)
        answers = await pipeline.execute(raise_on_error=False)
        for error in answers:
            if isinstance(error, Exception) and not is_foreign(error):
                raise error
        (seconds, micros), *found = answers
        waiting = zip(committed, found, strict=True)
        return 1000 * seconds + micros // 1000, {
            stream: id_key(entries[0][0].decode())[0]
            for stream, entries in waiting
            if entries and not isinstance(entries, Exception)
        }

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
            name for name, ahead in self._ahead.items() if name not in self._foreign
            if name not in self._unread or not ahead
            or (ahead[0].millis == ahead[-1].millis and len(ahead) < MOST_OF_A_MILLI)
        ]  # fmt: skip
        if not asked:  # no key is a stream
            await asyncio.sleep((block or 0) / 1000)
            return []
        keys = [self._keys[name] for name in asked]
        cursors = [self._cursors[name] for name in asked]
        try:
            answer = await self._reader.execute_command("XREAD", *args, "STREAMS", *keys, *cursors)
        except ResponseError as error:
            if not is_foreign(error):
                raise
            await self.ends()  # which of them it is
            return []
        self._unread.difference_update(asked)
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        for name, found in pairs:
            if not found:
                continue
            stream = self._names[name]
            self._ahead[stream] += [Entry(stream, item[0], item[1]) for item in found]
            self._cursors[stream] = found[-1][0].decode()
            if len(found) >= most:
                self._unread.add(stream)
        return self._complete()

    def _leave_out(self, stream: str) -> None:
        """Something else is under a stream's key: the other streams go on without it."""
        if stream not in self._foreign:
            self._foreign.add(stream)
            self._unread.discard(stream)
            log.error(
                "a key is no stream: remove or rename it; the other streams are read without it",
                key=self._keys[stream],
            )

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
        if not entries and frontier is not None:
            return self._cut(frontier)
        return entries

    def _cut(self, millis: int) -> list[Entry]:
        """Takes a part of a millisecond of which one stream holds very much.

        Of each stream what is not newer, by the events' own times, than what every stream
        was read to: whatever the numbers skip then is filled soon.
        """
        held: dict[str, list[Entry]] = {}
        for stream, ahead in self._ahead.items():
            here = list(takewhile(lambda entry: entry.millis == millis, ahead))
            if here:
                held[stream] = here
        open_ = [name for name in held if name in self._unread]
        if all(len(held[name]) < MOST_OF_A_MILLI for name in open_):
            return []
        times = {stream: self._times(stream, here) for stream, here in held.items()}
        bound = min(times[name][-1] for name in open_)
        entries: list[Entry] = []
        for stream, here in held.items():
            upto = bisect_right(times[stream], bound)
            if upto:
                self._cuts[stream] = millis, times[stream][upto - 1]
            entries += [entry for entry in here[:upto] if entry.fields]
            del self._ahead[stream][:upto]
            self._given[stream] += upto
        return entries

    def _times(self, stream: str, entries: list[Entry]) -> list[int]:
        """The newest time up to each of these entries of one millisecond."""
        millis, latest = self._cuts.get(stream, (0, 0))
        if millis != entries[0].millis:
            latest = 0
        return list(accumulate(map(_time, entries), max, initial=latest))[1:]

    async def lag(self) -> dict[str, tuple[int, float]]:
        """How far reading is behind: entries and seconds, by stream.

        Counted from what :meth:`read` has given, because XINFO GROUPS may be wrong after
        a trim. The number of entries is exact once a stream was read to its end.
        """
        result = {}
        for stream, (_, last_id, left, added) in (await self.ends()).items():
            ahead = self._ahead[stream]
            cursor = ahead[0].id.decode() if ahead else self._cursors[stream]
            if not ahead and (not left or id_key(cursor) >= id_key(last_id)):
                self._given[stream] = added
                result[stream] = (0, 0.0)
            else:
                entries = added - self._given[stream]
                behind = (id_key(last_id)[0] - id_key(cursor)[0]) / 1000 if cursor != START else 0.0
                result[stream] = (entries, behind)
            metrics.LAG_ENTRIES.labels(stream).set(result[stream][0])
            metrics.LAG_SECONDS.labels(stream).set(result[stream][1])
        return result


def _time(entry: Entry) -> int:
    """An event's own time; 0 where there is none."""
    values = entry.event() if entry.fields else None
    return int(values[1]) if values and len(values[1]) <= 20 and values[1].isdigit() else 0


def is_foreign(error: Exception) -> bool:
    """Whether a key holds something of another type."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def _as_it_came(answer: Any, **_: Any) -> Any:
    return answer
