"""``/v1/events``: what happens, as server-sent events from the streams.

The id of an event is the id of its stream's entry, so ``Last-Event-ID`` says where to go on.
Entries of different streams may have the same id: the last of them alone carries it, and a
listener that went away between them gets all of them again.

The streams are those of every cell, in one Redis or in a cluster. The nodes of a cluster have clocks
of their own, so who comes back there gets the last seconds again.

One reader serves all listeners. Each listener has a queue; one that does not read is cut off,
and goes on where it was when it comes back.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from redis.asyncio import RedisCluster
from starlette.types import Receive, Scope, Send

from tbg_core.names import (
    ALERTS_STREAM,
    BLOCK_STATUS_STREAM,
    EVENT_STREAMS,
    WEEKLY_RESET_STREAM,
    in_cell,
    stream_of,
)
from tbg_serve.limit import address_of
from tbg_serve.miners import NO_NUL, spellings
from tbg_serve.primary import AWAY, Primary
from tbg_serve.unavailable import Unavailable

STREAMS: Final = {
    stream_of("share_best_diff"): "best",
    stream_of("block_found"): "block",
    BLOCK_STATUS_STREAM: "block_status",
    WEEKLY_RESET_STREAM: "reset",
    ALERTS_STREAM: "worker_back",
}
PATH: Final = "/v1/events"
QUEUE: Final = 1000  # events that a listener may lag by
AT_ONCE: Final = 500  # entries of a stream in one answer of Redis
BEAT_SECONDS: Final = 15.0  # a comment at least so often, so that proxies keep the connection
BLOCK_MILLISECONDS: Final = 2000
RETRY_MILLISECONDS: Final = 3000  # a listener comes back after
PAUSE_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 0.01  # several milliseconds, which is the step of ids
LAST: Final = 2**64 - 1  # the last number of a millisecond
SKEW: Final = 5000  # milliseconds that clocks of a cluster's nodes may differ
# Of the data: never in an answer, whatever event holds it.
HIDDEN: Final = frozenset({"ip", "ip_address", "client_id"})

log: structlog.stdlib.BoundLogger = structlog.get_logger("tbg_serve")

Id = tuple[int, int]
Entry = tuple[Id, str, dict[bytes, bytes]]  # id, stream, fields


@dataclass(eq=False)
class Listener:
    """One connection.

    Attributes:
        address: whose it is.
        reached: where the reader was in each stream when it joined, by key.
        queue: what it has not read; None ends it.
    """

    address: str
    reached: dict[str, Id]
    queue: asyncio.Queue[list[Entry] | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=QUEUE)
    )


class Events:
    """Reads the streams for everybody who listens.

    Args:
        primary: has the streams.
        most: listeners at once.
        each: listeners of one address.
        cells: whose events they are; the empty name is one, too.
    """

    def __init__(
        self, primary: Primary, most: int, each: int, cells: Iterable[str] = ("",)
    ) -> None:
        self._primary = primary
        # By key, which stream it is; what the whole pool shares is in no cell.
        self._streams = {
            in_cell(stream, cell): stream
            for stream in STREAMS
            for cell in (cells if stream in EVENT_STREAMS else ("",))
        }
        self._skew = 0
        self._most = most
        self._each = each
        self._listeners: set[Listener] = set()
        self._addresses: Counter[str] = Counter()
        self._reached: dict[str, Id] = {}
        self._lost: Id = (0, 0)  # the last id that a Redis had and the next one had not
        self._task: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    def close(self) -> None:
        """Ends the reader and every listener."""
        if self._task is not None:
            self._task.cancel()
        for listener in list(self._listeners):
            self._cut(listener)

    async def join(self, address: str) -> Listener:
        """A new listener; what happens from now on waits for it.

        Raises:
            HTTPException: 429, the address has too many.
            Unavailable: there are too many, or Redis does not answer.
        """
        if sum(self._addresses.values()) >= self._most:
            raise Unavailable("too many listeners")
        if self.trouble is not None:
            raise Unavailable(self.trouble)
        if self._addresses[address] >= self._each:
            raise HTTPException(429, "too many listeners of this address")
        self._addresses[address] += 1
        try:
            if self._task is None or self._task.done():
                await self._seek()
                self._task = asyncio.create_task(self._read())
        except BaseException:
            self._count_out(address)
            raise
        listener = Listener(address, dict(self._reached))
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """A listener is gone."""
        self._listeners.discard(listener)
        self._count_out(listener.address)

    def _count_out(self, address: str) -> None:
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    async def entries(self, listener: Listener, after: Id | None) -> AsyncIterator[list[Entry]]:
        """Entries in the order of their ids, those of one id together; empty ones as a beat.

        Args:
            listener: whose they are.
            after: the id that it had last; None for what came since it joined.
        """
        if after is not None:
            async for entries in self._backlog(after, listener.reached):
                yield entries
        while True:
            try:
                found = await asyncio.wait_for(listener.queue.get(), BEAT_SECONDS)
            except TimeoutError:
                found = []
            if found is None:
                return
            yield found

    async def _seek(self) -> None:
        """Goes to the end of the streams.

        Raises:
            Unavailable: Redis does not answer.
        """
        client = None
        try:
            client = await self._primary.client()
            self._skew = SKEW if isinstance(client, RedisCluster) else 0
            for key in self._streams:
                last = await client.xrevrange(key, count=1)
                self._reached[key] = parse(last[0][0]) if last else (0, 0)
        except AWAY as error:
            await self._primary.lose(client)
            raise Unavailable("Redis does not answer") from error

    async def missed(self, after: Id) -> bool:
        """Whether entries that followed an id may be gone: trimmed, or lost with their Redis.

        Raises:
            Unavailable: Redis does not answer.
        """
        client = None
        try:
            client = await self._primary.client()
            gone = (0, 0) < after <= self._lost  # it had what its Redis has no more
            newest = (0, 0)
            for key in self._streams:
                if not await client.exists(key):
                    continue
                about = await client.xinfo_stream(key)
                last = parse(about["last-generated-id"])
                newest = max(newest, last)
                first = await client.xrange(key, count=1)
                if last > after and (not first or parse(first[0][0]) > after):
                    gone = gone or about.get("entries-added", 0) > about["length"]
        except AWAY as error:
            await self._primary.lose(client)
            raise Unavailable("Redis does not answer") from error
        # An id that no stream has reached is one of another Redis.
        return gone or after > newest

    async def _backlog(self, after: Id, upto: dict[str, Id]) -> AsyncIterator[list[Entry]]:
        """What came after an id, up to where the reader was when the listener came."""
        client = await self._primary.client()
        after = max(0, after[0] - self._skew), after[1]
        cursors = dict.fromkeys(self._streams, after)
        pages: dict[str, list[Entry]] = {key: [] for key in self._streams}
        ended = {key for key in self._streams if upto[key] <= after}
        while True:
            for key, stream in self._streams.items():
                if not pages[key] and key not in ended:
                    page = await client.xrange(
                        key, f"({text(cursors[key])}", text(upto[key]), count=AT_ONCE
                    )
                    pages[key] = [(parse(name), stream, fields) for name, fields in page]
                    if not page:
                        ended.add(key)
                    else:
                        cursors[key] = pages[key][-1][0]
            heads = [page[0][0] for page in pages.values() if page]
            if not heads:
                return
            lowest = min(heads)
            yield [page.pop(0) for page in pages.values() if page and page[0][0] == lowest]

    async def _read(self) -> None:
        while True:
            client = None
            try:
                client = await self._primary.client()
                await self._look_again(client)
                async with asyncio.TaskGroup() as group:
                    for keys in _together(client, self._streams):
                        group.create_task(self._follow(client, keys))
            except* AWAY as errors:
                error = errors.exceptions[0]
                if self.trouble is None:
                    log.warning("no events: redis does not answer", error=str(error) or repr(error))
            self.trouble = "Redis does not answer"
            # Nobody is left in the belief that nothing happens.
            for listener in list(self._listeners):
                self._cut(listener)
            await self._primary.lose(client)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look_again(self, client: Any) -> None:
        """Goes to the end of a stream that is not the one that was read.

        The entry that was read last is there, or was trimmed. Otherwise this Redis is another
        one, or lost its tail: who had that entry, or waits for what came before it, missed some.
        """
        for key, reached in self._reached.items():
            if reached == (0, 0) or await client.xrange(key, text(reached), text(reached)):
                continue
            first = await client.xrange(key, count=1)
            last = await client.xrevrange(key, count=1)
            if first and parse(first[0][0]) > reached:
                about = await client.xinfo_stream(key)
                if about.get("entries-added", 0) > about["length"]:
                    continue
            self._lost = max(self._lost, reached)
            self._reached[key] = parse(last[0][0]) if last else (0, 0)

    async def _follow(self, client: Any, keys: list[str]) -> None:
        """Reads streams that one command may read; ends with an error alone.

        Redis wakes its reader with one stream of those that were written at once, and ids count
        within a stream. So an entry is passed on once its millisecond is over and all streams were
        read again: nothing comes later that has its id or a lower one.
        """
        read = {key: self._reached[key] for key in keys}
        waiting: list[tuple[str, Entry]] = []
        while True:
            whole = (0, 0)  # the last id of which all is there
            if waiting:
                whole = max(entry[0][0] for _, entry in waiting), LAST
                await asyncio.sleep(SETTLE_SECONDS)
            answer = await client.xread(
                {key: text(last) for key, last in read.items()},
                count=AT_ONCE,
                block=None if waiting else BLOCK_MILLISECONDS,
            )
            self.trouble = None
            for name, page in answer.items() if isinstance(answer, dict) else answer:
                key = name.decode()
                rows = page[0] if page and isinstance(page[0], list) else page
                waiting += [
                    (key, (parse(entry), self._streams[key], fields)) for entry, fields in rows
                ]
                if rows:
                    read[key] = parse(rows[-1][0])
                if len(rows) == AT_ONCE:  # there may be more
                    whole = min(whole, read[key])
            self._spread([one for one in waiting if one[1][0] <= whole])
            waiting = [one for one in waiting if one[1][0] > whole]

    def _spread(self, entries: list[tuple[str, Entry]]) -> None:
        groups: dict[Id, list[Entry]] = {}
        for key, entry in sorted(entries, key=lambda one: one[1][0]):
            self._reached[key] = entry[0]
            groups.setdefault(entry[0], []).append(entry)
        for listener in list(self._listeners):
            for group in groups.values():
                try:
                    listener.queue.put_nowait(group)
                except asyncio.QueueFull:
                    self._cut(listener)
                    break

    def _cut(self, listener: Listener) -> None:
        """Ends a listener; what it has not read it gets when it comes back."""
        self._listeners.discard(listener)
        while not listener.queue.empty():
            listener.queue.get_nowait()
        listener.queue.put_nowait(None)


def _together(client: Any, keys: Iterable[str]) -> list[list[str]]:
    """Keys by what one command may read: all of a server, those of one hash tag in a cluster."""
    if not isinstance(client, RedisCluster):
        return [list(keys)]
    groups: dict[str, list[str]] = {}
    for key in keys:
        tag = key.partition("{")[2].partition("}")[0]
        groups.setdefault(tag or key, []).append(key)
    return list(groups.values())


def parse(name: bytes | str) -> Id:
    """An entry's id as numbers."""
    milliseconds, _, number = (name.decode() if isinstance(name, bytes) else name).partition("-")
    return int(milliseconds), int(number or 0)


def text(name: Id) -> str:
    """An entry's id as Redis has it."""
    return f"{name[0]}-{name[1]}"


def tell(
    entry: Entry, users: list[str] | None, worker: str | None
) -> tuple[str, dict[str, Any]] | None:
    """The event of an entry and its data, None if the listener does not want it."""
    _, stream, fields = entry
    kind = STREAMS[stream]
    try:
        data = json.loads(fields[b"data"])
        at = int(fields[b"timestamp"])
    except (KeyError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    data = {name: value for name, value in data.items() if name not in HIDDEN}
    if kind == "worker_back":
        if data.get("incident") != "workers_offline" or data.get("state") != "recovered":
            return None
        named = [one for one in data.get("workers", []) if isinstance(one, dict)]
        if users is not None:
            named = [one for one in named if one.get("user") in users]
            named = [one for one in named if worker is None or one.get("worker") == worker]
            if not named:
                return None
        data = {"workers": named, "workers_total": data.get("workers_total")}
    elif kind != "reset" and users is not None:
        if data.get("user") not in users:
            return None
        if worker is not None and data.get("worker", worker) != worker:
            return None
    return kind, {"timestamp": at, **data}


def written(entries: list[Entry], users: list[str] | None, worker: str | None) -> str:
    """Entries of one id, as server-sent events; the id moves on with the last of them."""
    told = [found for entry in entries if (found := tell(entry, users, worker)) is not None]
    parts = [
        f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n" for kind, data in told
    ]
    if not parts:
        return ""
    parts[-1] = f"id: {text(entries[-1][0])}\n{parts[-1]}"
    return "".join(f"{part}\n" for part in parts)


def router(events: Events) -> APIRouter:
    """The route of events."""
    routes = APIRouter(tags=["events"])

    @routes.get(
        PATH,
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "description": "events `best`, `block`, `block_status`, `reset`, `worker_back`; "
                "`missed` where some may be gone",
            }
        },
    )
    async def listen(
        request: Request,
        user: Annotated[
            str | None, Query(max_length=256, pattern=NO_NUL, description="of this address alone")
        ] = None,
        worker: Annotated[
            str | None, Query(max_length=256, pattern=NO_NUL, description="of its worker alone")
        ] = None,
        last_event_id: Annotated[
            str | None,
            Header(
                pattern=r"^\d{1,15}(-\d{1,15})?$",
                description="goes on after this event, as browsers ask when they come back",
            ),
        ] = None,
    ) -> StreamingResponse:
        """What happens: new bests, blocks and what becomes of them, results of weeks, workers
        that are back. Times are microseconds since the epoch."""
        after = None if last_event_id is None else parse(last_event_id)
        missed = after is not None and await events.missed(after)
        listener = await events.join(address_of(request.scope))
        users = None if user is None else spellings(user)
        return _Stream(
            events, listener, _body(events, listener, after, users, worker, missed=missed)
        )

    return routes


async def _body(
    events: Events,
    listener: Listener,
    after: Id | None,
    users: list[str] | None,
    worker: str | None,
    *,
    missed: bool,
) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    if missed:
        yield 'event: missed\ndata: {"reason":"older events are gone"}\n\n'
    # Without Redis it ends here, and the listener comes back.
    with contextlib.suppress(*AWAY):
        async for entries in events.entries(listener, after):
            yield written(entries, users, worker) if entries else ": beat\n\n"


class _Stream(StreamingResponse):
    """Counts its listener out however it ends, also before its first byte."""

    def __init__(self, events: Events, listener: Listener, body: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(body, media_type="text/event-stream", headers=headers)
        self._events, self._listener = events, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.leave(self._listener)
