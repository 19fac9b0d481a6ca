"""Writes batches to the Redis streams: all of a batch or nothing, and each event once.

A batch is one transaction (MULTI … EXEC) with two kinds of marks in it: the batch's name,
which says after a lost answer whether it was done, and for every engine boot which of its
numbers are in the streams, which makes a resent event no second entry. Blocks are announced
in the same transaction.

A request may be late: the kernel delivers what an abandoned connection sent long after a new
one took over. So each connection watches a key of its own, its fence, before it sends a
batch, and the next connection writes that key first: from then on Redis refuses whatever
the former one still sends.

Redis may refuse single commands of a transaction (a key of another type, a stream without
ids), and does the others. Their entries are handed back, and the marks say so.
"""

import asyncio
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
import msgspec
import redis.asyncio as redis
import structlog
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ingest.lock import Lock
from ingest.missing import is_missing, missing_key
from ingest.receiver.recent import Recent, Times
from ingest.sequence import Arrival, Seen
from tbg_core.entry import Batch, Places, additions, command
from tbg_core.names import BLOCKS_CHANNEL, IDENTITY_KEY, in_cell
from tbg_core.primary import find_primary
from tbg_core.redis_server import Guard

REMEMBERED: Final = b"604800"  # seconds that marks live: a week
MAX_INSTANCES: Final = 1000  # engine boots in memory; Redis knows the others
# Holes kept in an engine's mark, which is written with every batch. What lies before them
# is published, and the writer finds out whether it is new.
MAX_HOLES: Final = 1000
_READ: Final = 2**16  # bytes
# How a line begins that is an error, or no answer: EXEC did nothing, as the fence was written.
_FAILURES: Final = (b"\n-", b"\n*-1\r", b"\n_\r")
# Waits for those that must have a batch; the milliseconds follow.
_CONFIRM: Final[dict[str, tuple[bytes, ...]]] = {
    "": (),
    "local": (b"WAITAOF", b"1", b"0"),
    "replica": (b"WAIT", b"1"),
}

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver.publisher")


def published_key(instance: str, cell: str = "") -> str:
    """The key that says which numbers of an engine boot are in the streams."""
    return in_cell(f"mining:published:{instance}", cell)


def fence_key(connection: str, cell: str = "") -> str:
    """The key that a connection watches; writing it ends that connection's requests."""
    return in_cell(f"mining:fence:{connection}", cell)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch.

    Attributes:
        known: entries that Redis had already; they were left out.
        refused: entries that Redis did not take, though it took the rest.
        why: what Redis said of the first of them.
    """

    known: Batch
    refused: Batch
    why: str = ""


class _NotQueuedError(ResponseError):
    """Redis does nothing of a transaction, because of the command of this number."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


# By engine boot, the numbers of a batch in order, their times, and which entry each of them is.
Numbered = dict[str, list[tuple[int, int, tuple[str, int]]]]


class _Done(msgspec.Struct, array_like=True, frozen=True):
    """A batch's name, what was left out of it, and what Redis refused of it."""

    name: str
    known: list[tuple[str, int]] = []
    refused: list[tuple[str, int]] = []


class Publisher:
    """A connection to Redis that publishes batches.

    Args:
        url: as REDIS_URL.
        timeout: seconds without an answer until Redis counts as away.
        lock: remembers the name of the connection beyond the end of this process.
        cell: whose keys are written.
        confirm: what must have a batch before it is published: the disk of its server
            (``local``), or a replica (``replica``); empty for its server's memory.

    Attributes:
        connections: how many there were so far.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        lock: Lock | None = None,
        *,
        cell: str = "",
        confirm: str = "",
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._lock = lock
        self._guard = Guard(log, cell)
        self._cell = cell
        self._confirm = confirm
        self._pool: redis.ConnectionPool | None = None
        self._connection: Connection | None = None
        self._fence = lock.read() if lock is not None else ""
        self._corrections: list[bytes] = []  # marks to set right as soon as Redis answers
        self._seen: dict[str, Seen] = {}
        self._recent = Recent()
        self._sure: set[str] = set()  # marks under which Redis has no batch but confirmed ones
        self._silent = False  # this connection may not announce blocks
        self.connections = 0

    async def look(self) -> None:
        """Finds the server that takes the cell's writes now, and judges it.

        Raises:
            RedisError, OSError: there is none, or it cannot be used.
        """
        pool = await self._find()
        try:
            await self._guard.look(redis.Redis(connection_pool=pool))
        finally:
            await pool.disconnect()

    async def _find(self) -> "redis.ConnectionPool":
        key = in_cell(IDENTITY_KEY, self._cell)
        found = await asyncio.to_thread(find_primary, self._url, key, self._timeout)
        return redis.ConnectionPool.from_url(
            found.url,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=None,
            max_connections=2,
        )

    async def publish(self, batch: Batch) -> Outcome:
        """Publishes a batch, but for the events that are in the streams already.

        A batch whose answer was lost, or that a killed process left behind, must be the
        next one of its mark to be tried: the mark then says whether it was done.

        Raises:
            RedisError: Redis is away or refuses (loading, out of memory, read
                only); nothing of the batch is there, or its answer was lost.
            OSError: the same, from the network.
        """
        try:
            await self._connect()
            if batch.mark not in self._sure:
                mark = await self._mark(batch)
                self._sure.add(batch.mark)
                if mark is not None and mark.name == batch.name:
                    return await self._recognised(batch, mark)
            return await self._add(batch)
        except (RedisError, OSError, TimeoutError):
            await self.disconnect()
            raise

    async def _add(self, batch: Batch) -> Outcome:
        numbered = _numbered(batch)
        await self._recall(numbered)
        seen, known, fresh = self._sift(batch, numbered)
        known -= await self._missing(numbered, known)
        rest = batch.without(known)
        entries = sum(map(rest.count, rest.values))
        before = [*additions(rest, self._cell), *self._published(seen)]
        bells = [] if self._silent else list(_bells(rest))
        done = self._done(batch, known, set())
        first = entries + len(seen)
        try:
            errors = await self._transact(
                [*before, *bells, done], first + len(bells) + 1, entries=entries
            )
        except _NotQueuedError as error:
            if not first <= error.at < first + len(bells):
                raise
            # An announcement decorates: what it lacks keeps no event out.
            self._silent = True
            log.error(
                "blocks are stored, and not announced", channel=BLOCKS_CHANNEL, error=str(error)
            )
            errors = await self._transact([*before, done], first + 1, entries=entries)
        refused: Places = set()
        why = ""
        if errors:
            sent = [place for place in _places(batch) if place not in known]
            refused = {sent[at] for at in errors if at < entries}
            why = _reason(errors, sent)
            log.error("redis refused a part of a batch", events=len(refused), error=why)
        if refused:
            seen, _, fresh = self._sift(batch, numbered, refused)
            await self._correct(batch, seen, known, refused)
        self._seen |= seen
        for name, times in fresh.items():
            self._recent.add(name, times)
        return Outcome(batch.only(known), batch.only(refused), why)

    async def _recognised(self, batch: Batch, mark: _Done) -> Outcome:
        """The outcome of a batch whose answer was lost: what Redis refused, it said there."""
        known, refused, why = set(mark.known), set(mark.refused), "refused before"
        if self._confirm:
            # What confirms this write confirms all that came before it.
            await self._transact([self._done(batch, known, refused)], 1)
        if not refused:
            # What made a stream refuse is likely still there.
            wrong = await self._wrong_types(batch)
            refused = {at for at in _places(batch) if at[0] in wrong and at not in known}
            if refused:
                why = "; ".join(wrong.values())
                numbered = _numbered(batch.only(refused))
                await self._recall(numbered)
                # Which of these numbers the streams had before is not known any more.
                seen = {name: _unsure(self._seen[name]) for name in numbered}
                await self._correct(batch, seen, known, refused)
                self._seen |= seen
        return Outcome(batch.only(known), batch.only(refused), why if refused else "")

    async def _wrong_types(self, batch: Batch) -> dict[str, str]:
        pipe = self._client.pipeline(transaction=False)
        for stream in batch.values:
            pipe.type(in_cell(stream, self._cell))
        kinds = [kind.decode() for kind in await pipe.execute()]
        return {
            stream: f"the key {stream} is a {kind}: it must be a stream"
            for stream, kind in zip(batch.values, kinds, strict=True)
            if kind not in ("stream", "none")
        }

    async def _mark(self, batch: Batch) -> _Done | None:
        raw = await self._values([in_cell(batch.mark, self._cell)])
        return _unmarked(raw[0]) if raw[0] else None

    async def _values(self, keys: list[str]) -> list[bytes | None]:
        """Values of keys, in one round trip; None also for a key of another type."""
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
        values: list[bytes | None] = []
        for key, value in zip(keys, await pipe.execute(raise_on_error=False), strict=True):
            if isinstance(value, ResponseError) and str(value).startswith("WRONGTYPE"):
                log.error("not a mark of ours: it is written again", key=key, error=str(value))
                values.append(None)
            elif isinstance(value, BaseException):
                raise value
            else:
                values.append(value)
        return values

    async def _recall(self, names: Iterable[str]) -> None:
        """Reads what is published of engine boots that are not in memory."""
        names = list(names)
        unknown = [name for name in names if name not in self._seen]
        if not unknown:
            return
        if len(self._seen) + len(unknown) > MAX_INSTANCES:
            self._seen = {name: self._seen[name] for name in names if name in self._seen}
        stored = await self._values([published_key(name, self._cell) for name in unknown])
        for name, value in zip(unknown, stored, strict=True):
            self._seen[name] = _unpacked(value) if value else Seen()

    def _sift(
        self, batch: Batch, numbered: Numbered, apart: Places | None = None
    ) -> tuple[dict[str, Seen], Places, dict[str, Times]]:
        """What is seen of the batch's engines after it, and which entries Redis has.

        Args:
            apart: entries that are not in the streams.

        Returns:
            Also the times of numbers that come for the first time.
        """
        after: dict[str, Seen] = {}
        known: Places = set()
        fresh: dict[str, Times] = {}
        for name, found in numbered.items():
            seen = after[name] = self._seen[name].copy()
            first, before = seen.highest + 1, seen.latest
            numbers = [number for number, _, _ in found]
            if not apart and numbers == list(range(first, first + len(found))):
                seen.highest = numbers[-1]
                times = [micros for _, micros, _ in found]
                seen.latest = max(before, 1, max(times))
                fresh[name] = numbers, times
                continue
            new = fresh[name] = [], []
            here: dict[int, list[tuple[str, int]]] = {}  # what this batch brings of each number
            recent: dict[int, int] | None = None
            for number, micros, place in found:
                if place in (apart or ()):
                    continue
                if seen.add(number) is not Arrival.DUPLICATE:
                    here[number] = [place]
                    new[0].append(number)
                    new[1].append(micros)
                    # A dead letter has no time; what comes later is no copy of it.
                    seen.latest = max(seen.latest, micros, 1)
                elif number in here:
                    if any(_same(batch, place, other) for other in here[number]):
                        known.add(place)
                    else:
                        here[number].append(place)
                # A copy has the time of the first, and is not later than all that its boot has
                # sent. What is otherwise has a number that was used again, perhaps: the writer
                # compares it with the row.
                elif not 0 < before < micros:
                    recent = self._recent.of(name) if recent is None else recent
                    if not 0 < micros != recent.get(number, micros) > 0:
                        known.add(place)
            seen.forget(MAX_HOLES)
        return after, known, fresh

    async def _missing(self, numbered: Numbered, known: Places) -> Places:
        """Those of the copies that the database misses: their first entries are gone."""
        copies = {
            name: [(number, place) for number, _, place in found if place in known]
            for name, found in numbered.items()
            if known
        }
        asked = [name for name, found in copies.items() if found]
        if not asked:
            return set()
        stored = await self._values([missing_key(name, self._cell) for name in asked])
        return {
            place
            for name, value in zip(asked, stored, strict=True)
            for number, place in copies[name]
            if is_missing(value, number)
        }

    async def _connect(self) -> None:
        if self._connection is not None:
            return
        self._pool = await self._find()
        self._client = redis.Redis(connection_pool=self._pool)
        await self._guard.look(self._client)
        connection = cast(Connection, await self._pool.get_connection())
        name = secrets.token_hex(8)
        words: list[tuple[bytes, ...]] = [
            # Without the right to one of them, what follows would be done outside a transaction.
            (b"MULTI",),
            (b"EXEC",),
            (b"WATCH", fence_key(name, self._cell).encode()),
        ]
        if self._fence:
            # A key that is written and gone in a millisecond stays written for its watchers.
            key = fence_key(self._fence, self._cell).encode()
            words.insert(0, (b"SET", key, b"", b"PX", b"1"))
        try:
            await connection.send_packed_command([command(*each) for each in words])
            for _ in words:
                await connection.read_response()
        except BaseException:
            await self._drop(connection)
            raise
        # Only now: until here it has sent nothing that would have to be refused.
        self._connection, self._fence, self._silent = connection, name, False
        self.connections += 1
        if self._lock is not None:
            try:
                self._lock.write(name)
            except OSError as error:
                log.warning(
                    "cannot note the connection: a kill could let its last request come late",
                    file=str(self._lock.path),
                    error=error.strerror,
                )
        if self._corrections:
            await self._transact(self._corrections, len(self._corrections))
            self._corrections = []

    def _published(self, seen: dict[str, Seen]) -> Iterator[bytes]:
        for name, state in seen.items():
            key = published_key(name, self._cell).encode()
            yield command(b"SET", key, _packed(state), b"EX", REMEMBERED)

    def _done(self, batch: Batch, known: Places, refused: Places) -> bytes:
        mark = msgspec.json.encode(_Done(batch.name, sorted(known), sorted(refused)))
        key = in_cell(batch.mark, self._cell).encode()
        return command(b"SET", key, mark, b"EX", REMEMBERED)

    async def _correct(
        self, batch: Batch, seen: dict[str, Seen], known: Places, refused: Places
    ) -> None:
        """Says in the marks that a part of the batch is not there."""
        # Kept until it is done: this connection may end here.
        self._corrections = [*self._published(seen), self._done(batch, known, refused)]
        await self._transact(self._corrections, len(self._corrections))
        self._corrections = []

    async def _transact(
        self, commands: list[bytes], count: int, *, entries: int = 0
    ) -> dict[int, str]:
        """Does commands in one transaction.

        Args:
            count: how many there are.
            entries: how many of them add an entry: its id is a line more of the answer.

        Returns:
            By the number of a command, from 0, what Redis said to those that it refused,
            having done the others.
        """
        assert self._connection is not None
        words = _CONFIRM[self._confirm]
        await self._connection.send_packed_command(
            [
                command(b"MULTI"),
                *commands,
                command(b"EXEC"),
                command(b"WATCH", fence_key(self._fence, self._cell).encode()),
                *([command(*words, b"%d" % (1000 * self._timeout))] if words else []),
            ]
        )
        try:
            # As long again for the servers that confirm.
            async with asyncio.timeout(self._timeout * (2 if words else 1)):
                answers, confirmed = await _answers(self._connection, count, entries, self._confirm)
        except TimeoutError:
            raise RedisTimeoutError(f"no answer within {self._timeout:g} s") from None
        if answers is None:
            errors = {}
        else:
            queued, done, watched = answers[1 : count + 1], answers[count + 1], answers[count + 2]
            if done is None:
                raise ResponseError("another connection took over before this one was answered")
            if not isinstance(done, list) or isinstance(watched, Exception):
                said = [*queued, answers[0], done, watched]
                at, error = next(
                    (at, one) for at, one in enumerate(said) if isinstance(one, Exception)
                )
                raise _NotQueuedError(str(error), at)
            errors = {at: str(one) for at, one in enumerate(done) if isinstance(one, Exception)}
        if words and not (isinstance(confirmed, int) and confirmed):
            why = confirmed or f"not confirmed within {self._timeout:g} s"
            raise RedisTimeoutError(f"REDIS_CONFIRM={self._confirm}: {why}")
        return errors

    async def _drop(self, connection: Connection) -> None:
        await connection.disconnect(nowait=True)
        if self._pool is not None:
            await self._pool.release(connection)

    async def disconnect(self) -> None:
        """Drops the connection; the next batch makes a new one."""
        connection, self._connection = self._connection, None
        # Redis may come back with less than it had, or with one batch more.
        self._seen.clear()
        self._sure.clear()
        if connection is not None:
            await self._drop(connection)
        # What ended one connection has likely ended the others.
        if self._pool is not None:
            await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Closes everything."""
        await self.disconnect()


async def _answers(
    connection: Connection, count: int, entries: int, confirm: str
) -> tuple[list[Any] | None, object]:
    """The answers to MULTI, so many commands, EXEC and WATCH; None if all of them were done.

    To make an object of each answer would cost more than all the rest. So the lines are
    counted, and they are read only if one of them is no success.

    Returns:
        The answers, and how many have confirmed them, or an error.
    """
    lines = 3 + 2 * count + entries + {"": 0, "local": 3, "replica": 1}[confirm]
    data = b"\n"
    while not (failed := any(one in data for one in _FAILURES)) and data.count(b"\n") <= lines:
        data += await _more(connection)
    if not failed:
        *_, local, last, _ = data.rsplit(b"\r\n", 3)
        return None, int((local if confirm == "local" else last).lstrip(b":")) if confirm else 0
    reader = hiredis.Reader()
    reader.feed(data[1:])
    answers: list[Any] = []
    while len(answers) < count + (4 if confirm else 3):
        answer = reader.gets()
        if answer is False:
            reader.feed(await _more(connection))
        else:
            answers.append(answer)
    confirmed = answers[-1]
    return answers, confirmed[0] if confirm == "local" and isinstance(
        confirmed, list
    ) else confirmed


async def _more(connection: Connection) -> bytes:
    stream = connection._reader  # there is no public way to the bytes
    data = await stream.read(_READ) if stream is not None else b""
    if not data:
        raise RedisConnectionError("the connection was closed")
    return data


def _places(batch: Batch) -> list[tuple[str, int]]:
    """Every entry of a batch, in the order of its commands."""
    return [(stream, at) for stream in batch.values for at in range(batch.count(stream))]


def _same(batch: Batch, one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two entries of a batch are copies of one event."""
    return one[0] == other[0] and batch.entry(*one) == batch.entry(*other)


def _reason(errors: dict[int, str], sent: list[tuple[str, int]]) -> str:
    """What Redis said first, and of what."""
    first = min(errors)
    return f"{sent[first][0] if first < len(sent) else 'a mark'}: {errors[first]}"


def _numbered(batch: Batch) -> Numbered:
    found: Numbered = {}
    place, last = 0, ""
    for stream, instance, seq, time in batch.numbers():
        place, last = (place + 1, last) if stream == last else (0, stream)
        if instance and seq:
            item = int(seq), int(time) if time else 0, (stream, place)
            found.setdefault(instance.decode(), []).append(item)
    for numbers in found.values():
        numbers.sort()
    return found


def _bells(batch: Batch) -> Iterator[bytes]:
    for block in batch.blocks():
        yield command(b"PUBLISH", BLOCKS_CHANNEL.encode(), block)


def _unmarked(raw: bytes) -> _Done:
    try:
        return msgspec.json.decode(raw, type=_Done)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Of a receiver before this version: the name alone.
        return _Done(raw.decode(errors="replace"))


def _unsure(seen: Seen) -> Seen:
    """The same, without a claim about any number so far: the writer finds out."""
    return Seen(seen.highest, None, seen.highest + 1, seen.latest)


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
        return Seen()  # not ours: the writer finds out what is new
    return Seen(mark.highest, mark.missing, mark.floor, mark.latest)
