"""Writes batches to the Redis streams: all of a batch or nothing, and each event once.

A batch is one transaction (MULTI … EXEC) with two kinds of marks in it: the batch's name,
which tells after a lost answer whether it was done, and for every engine boot which of its
numbers are in the streams, which makes a resent event no second entry. Blocks are announced
in the same transaction.
"""

from typing import Final, cast

import msgspec
import redis.asyncio as redis
from redis.asyncio.connection import Connection
from redis.exceptions import RedisError, ResponseError

from ingest.entry import Batch, Places, additions, command
from ingest.names import BLOCKS_CHANNEL, STREAMS
from ingest.sequence import Arrival, Seen

REMEMBERED: Final = b"604800"  # seconds that marks live: a week
MAX_INSTANCES: Final = 1000  # engine boots in memory; Redis knows the others
# Holes kept in an engine's mark, which is written with every batch. What lies before them
# is published, and the writer tells whether it is new.
MAX_HOLES: Final = 1000

# Redis would answer each command of a transaction with a line, and reading them costs more
# than all the rest. So only two answers are asked for: that it answers again, and the mark,
# which is this batch's if and only if the transaction was done.
_BEGIN: Final = command(b"CLIENT", b"REPLY", b"OFF") + command(b"MULTI")
_END: Final = command(b"EXEC") + command(b"CLIENT", b"REPLY", b"ON")


def published_key(instance: str) -> str:
    """The key that says which numbers of an engine boot are in the streams."""
    return f"mining:published:{instance}"


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
        self._seen: dict[str, Seen] = {}
        self._sure = False  # that Redis has no batch but those that it confirmed

    async def publish(self, batch: Batch) -> Batch:
        """Publishes a batch, but for the events that are in the streams already.

        A batch whose answer was lost, or that a killed process left behind, must be the
        next one to be tried: its mark then tells whether it was done.

        Returns:
            What of it was left out: entries that Redis had.

        Raises:
            RedisError: Redis is away or refuses (loading, out of memory, read
                only); nothing of the batch is there, or its answer was lost.
            OSError: the same, from the network.
        """
        try:
            if not self._sure:
                mark = cast(bytes | None, await self._client.get(batch.mark))
                name, known = _unmarked(mark) if mark else ("", set())
                if name == batch.name:
                    self._sure = True
                    return batch.only(known)
            seen, known = await self._sift(batch)
            await self._call(batch.without(known), seen, _marked(batch.name, known))
        except (RedisError, OSError, TimeoutError):
            await self.disconnect()
            raise
        self._sure = True
        self._seen |= seen
        return batch.only(known)

    async def _sift(self, batch: Batch) -> tuple[dict[str, Seen], Places]:
        """What is seen of the batch's engines after it, and which entries Redis has."""
        arrived: dict[bytes, list[tuple[int, int, str, int]]] = {}
        place, last = 0, ""
        for stream, instance, seq, time in batch.numbers():
            place, last = (place + 1, last) if stream == last else (0, stream)
            if instance and seq:
                micros = int(time) if time else 0
                arrived.setdefault(instance, []).append((int(seq), micros, stream, place))
        after: dict[str, Seen] = {}
        known: Places = set()
        for raw, found in arrived.items():
            name = raw.decode()
            seen = after[name] = (await self._recall(name)).copy()
            found.sort()
            first, before = seen.highest + 1, seen.latest
            if [number for number, *_ in found] == list(range(first, first + len(found))):
                seen.highest = found[-1][0]
                seen.latest = max(before, max(micros for _, micros, _, _ in found))
                continue
            for number, micros, stream, place in found:
                if seen.add(number) is not Arrival.DUPLICATE:
                    seen.latest = max(seen.latest, micros)
                # A copy is not later than all that its boot has sent. What is has a number that
                # was used again, perhaps: the writer compares it with the row.
                elif not 0 < before < micros:
                    known.add((stream, place))
            seen.forget(MAX_HOLES)
        return after, known

    async def _recall(self, instance: str) -> Seen:
        seen = self._seen.get(instance)
        if seen is None:
            if len(self._seen) >= MAX_INSTANCES:
                self._seen.clear()
            stored = cast(bytes | None, await self._client.get(published_key(instance)))
            seen = self._seen[instance] = _unpacked(stored) if stored else Seen()
        return seen

    async def _call(self, batch: Batch, seen: dict[str, Seen], mark: bytes) -> None:
        if self._connection is None:
            await self._check_types()
            self._connection = cast(Connection, await self._pool.get_connection())
        key = batch.mark.encode()
        await self._connection.send_packed_command(
            [
                _BEGIN,
                *additions(batch),
                *(
                    command(b"SET", published_key(one).encode(), _packed(state), b"EX", REMEMBERED)
                    for one, state in seen.items()
                ),
                *(command(b"PUBLISH", BLOCKS_CHANNEL.encode(), one) for one in batch.blocks()),
                command(b"SET", key, mark, b"EX", REMEMBERED),
                _END,
                command(b"GET", key),
            ]
        )
        await self._connection.read_response()
        if await self._connection.read_response() != mark:
            # It says why as soon as one of the commands is asked alone.
            await self._client.set(f"{batch.mark}:probe", "", ex=1)
            raise ResponseError("Redis did not take the batch")

    async def _check_types(self) -> None:
        """A key of another type would fail within the transaction, and nobody would hear."""
        for stream in STREAMS:
            kind = cast(bytes, await self._client.type(stream)).decode()
            if kind not in ("stream", "none"):
                raise ResponseError(f"the key {stream} is a {kind}: it must be a stream")

    async def disconnect(self) -> None:
        """Drops the connection; the next batch makes a new one."""
        connection, self._connection = self._connection, None
        # Redis may come back with less than it had, or with one batch more.
        self._seen.clear()
        self._sure = False
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def close(self) -> None:
        """Closes everything."""
        await self.disconnect()
        await self._client.aclose()
        await self._pool.aclose()


def _marked(name: str, known: Places) -> bytes:
    """A batch's name, and what was left out of it: if the answer is lost, that is counted later."""
    return msgspec.json.encode((name, sorted(known)))


def _unmarked(mark: bytes) -> tuple[str, Places]:
    try:
        name, known = msgspec.json.decode(mark, type=tuple[str, list[tuple[str, int]]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Of a receiver before this version: the name alone.
        return mark.decode(errors="replace"), set()
    return name, set(known)


class _Mark(msgspec.Struct, array_like=True):
    """What the key of an engine boot holds; a receiver before this version kept no time."""

    highest: int
    floor: int
    missing: list[tuple[int, int]]
    latest: int = 0


def _packed(seen: Seen) -> bytes:
    return msgspec.json.encode(_Mark(seen.highest, seen.floor, seen.missing, seen.latest))


def _unpacked(stored: bytes) -> Seen:
    try:
        mark = msgspec.json.decode(stored, type=_Mark)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Seen()  # not ours: the writer tells what is new
    return Seen(mark.highest, mark.missing, mark.floor, mark.latest)
