"""``/v1/events``: every event once for who stays, and none left out for who comes back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio as redis_async

from tbg_core.names import (
    ALERTS_STREAM,
    BLOCK_STATUS_STREAM,
    WEEKLY_RESET_STREAM,
    in_cell,
    stream_of,
)
from tests.processes import LIMIT, until
from tests.tbg_serve.harness import ALICE, BOB, Server, served

BEST, BLOCK = stream_of("share_best_diff"), stream_of("block_found")


def entry_of(stream: str, **data: Any) -> dict[str, str]:
    """The fields of an entry, as the receiver and the batch side write them."""
    return {
        "event": stream.partition(":")[2],
        "timestamp": "1796030000000000",
        "source": "hosted",
        "data": json.dumps(data),
    }


async def add(redis: Any, stream: str, entry: str = "*", **data: Any) -> str:
    """Adds an entry, and returns its id."""
    name: bytes = await redis.xadd(stream, entry_of(stream, **data), id=entry)
    return name.decode()


class Listener:
    """A client of the events, as a browser's EventSource."""

    def __init__(self, lines: aiohttp.StreamReader) -> None:
        self._lines = lines
        self.last_id: str | None = None

    async def ends(self) -> bool:
        """Waits for the end of the stream."""
        while await self._lines.readline():
            pass
        return True

    async def next(self) -> tuple[str, Any]:
        """The next event: its name and its data."""
        name, data = "message", None
        while True:
            line = (await self._lines.readline()).decode()
            assert line, "the stream has ended"
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
            elif line == "\n" and data is not None:
                return name, data


@contextlib.asynccontextmanager
async def listening(
    server: Server, query: str = "", last_id: str | None = None
) -> AsyncIterator[Listener]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{server.url}/v1/events{query}", headers=headers) as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        # Its first line comes when it listens: what happens from now on is for it.
        assert (await answer.content.readline()).startswith(b"retry: ")
        yield Listener(answer.content)


async def admitted(server: Server) -> bool:
    """Whether the server lets a listener in."""
    try:
        async with listening(server):
            return True
    except AssertionError:
        return False


@pytest.fixture
def server(database_url: str, redis_url: str, tmp_path: Path) -> Any:
    with served(database_url, redis_url, tmp_path, SERVE_EVENTS_EACH="3") as one:
        yield one


async def test_what_happens_is_told_and_no_address_with_it(server: Server, redis: Any) -> None:
    await add(redis, BEST, user=ALICE, worker="old", new_best_diff=1)
    async with listening(server) as all_of_it, listening(server, f"?user={BOB}") as bobs:
        await add(
            redis, BEST, user=ALICE, worker="a", new_best_diff=5, ip="203.0.113.7", client_id=3
        )
        await add(redis, BLOCK, user=BOB, worker="b", height=7)
        await add(redis, BLOCK_STATUS_STREAM, user=BOB, old_status="found", new_status="accepted")
        await add(redis, WEEKLY_RESET_STREAM, week="2026-W48", winner={"user": ALICE})
        await add(redis, stream_of("share_submitted"), user=BOB)
        named = [{"user": ALICE, "worker": "a"}, {"user": BOB, "worker": "b"}]
        for state in ("firing", "recovered"):
            await add(
                redis,
                ALERTS_STREAM,
                incident="workers_offline",
                state=state,
                workers=named,
                workers_total=2,
            )
        told = [await all_of_it.next() for _ in range(5)]
        assert [name for name, _ in told] == [
            *("best", "block", "block_status", "reset", "worker_back"),
        ]
        best = {"timestamp": 1796030000000000, "user": ALICE, "worker": "a", "new_best_diff": 5}
        assert told[0][1] == best
        assert told[4][1]["workers"] == named
        mine = [await bobs.next() for _ in range(4)]
        assert [name for name, _ in mine] == ["block", "block_status", "reset", "worker_back"]
        assert mine[3][1]["workers"] == named[1:]


async def test_who_comes_back_goes_on_where_it_was(server: Server, redis: Any) -> None:
    async with listening(server) as first:
        await add(redis, BEST, user=ALICE, worker="a", new_best_diff=1)
        assert (await first.next())[1]["new_best_diff"] == 1
        last = first.last_id
    for number in range(2, 1302):  # more than Redis is asked for at once
        await add(redis, BEST, user=ALICE, worker="a", new_best_diff=number)
        if number % 100 == 0:
            await add(redis, BLOCK, user=ALICE, worker="a", height=number)
    async with listening(server, last_id=last) as second:
        seen = [await second.next() for _ in range(1300 + 13)]
        await add(redis, BEST, user=ALICE, worker="a", new_best_diff=1302)
        seen.append(await second.next())
    bests = [data["new_best_diff"] for name, data in seen if name == "best"]
    assert bests == list(range(2, 1303))
    # Within a millisecond, ids of two streams say nothing of their order.
    blocks = [data["height"] for name, data in seen if name == "block"]
    assert blocks == list(range(100, 1301, 100))


async def test_events_of_one_id_come_again_until_the_last_was_there(
    server: Server, redis: Any
) -> None:
    async with listening(server) as first:
        async with redis.pipeline(transaction=True) as pipe:
            for stream, entry in ((BEST, "5-1"), (BLOCK, "5-1"), (BEST, "5-2")):
                pipe.xadd(stream, {"timestamp": "1", "data": json.dumps({"user": entry})}, id=entry)
            await pipe.execute()
        names, ids = [], []
        for _ in range(3):
            names.append((await first.next())[0])
            ids.append(first.last_id)
    assert sorted(names[:2]) == ["best", "block"]
    assert ids == [None, "5-1", "5-2"]
    async with listening(server, last_id="5-0") as again:
        assert sorted([(await again.next())[0] for _ in range(2)]) == ["best", "block"]
    async with listening(server, last_id="5-1") as again:
        assert (await again.next())[1]["user"] == "5-2"


async def test_who_was_away_for_too_long_is_told(server: Server, redis: Any) -> None:
    for number in range(1, 6):
        await add(redis, BEST, f"{number}-0", user=ALICE)
    await redis.xtrim(BEST, maxlen=2, approximate=False)
    async with listening(server, last_id="1-0") as late:
        assert (await late.next())[0] == "missed"
        assert (await late.next())[0] == "best"
        assert late.last_id == "4-0"
    async with listening(server, last_id="4-0") as well:
        assert (await well.next())[0] == "best"
        assert well.last_id == "5-0"


async def test_who_comes_from_another_redis_is_told_and_sent_the_rest(
    server: Server, redis: Any
) -> None:
    async with listening(server, last_id="99-0") as from_elsewhere:
        assert (await from_elsewhere.next())[0] == "missed"
    for number in range(1, 4):
        await add(redis, BEST, f"{number}-0", user=ALICE)
    async with listening(server, last_id="9-0") as ahead:
        assert (await ahead.next())[0] == "missed"
        await add(redis, BEST, "10-0", user=ALICE)
        assert (await ahead.next())[0] == "best"
    # Nothing is left of what it had not seen; then it had seen all of it.
    await redis.xtrim(BEST, maxlen=0, approximate=False)
    async with listening(server, last_id="3-0") as late, listening(server, last_id="10-0") as well:
        assert (await late.next())[0] == "missed"
        await add(redis, BEST, "11-0", user=ALICE)
        assert [(await one.next())[0] for one in (late, well)] == ["best", "best"]
    async with listening(server, f"?user={ALICE.upper()}", last_id="11-0") as in_capitals:
        await add(redis, BEST, "12-0", user=ALICE)
        assert (await in_capitals.next())[1]["user"] == ALICE


async def test_a_redis_that_lost_its_tail_is_read_on_and_its_listeners_are_told(
    database_url: str, tmp_path: Path, valkey_server: Any
) -> None:
    store = valkey_server()
    with served(database_url, store.url, tmp_path) as server:
        async with redis_async.Redis.from_url(store.url) as redis:
            await add(redis, BEST, "5-0", user=ALICE)
            async with listening(server, last_id="4-0") as one:
                assert (await one.next())[0] == "best"
                await add(redis, BEST, "9-0", user=ALICE)
                assert (await one.next())[0] == "best"
                # Its streams are those of before, as after a failover to a replica that lagged.
                await redis.delete(BEST)
                await add(redis, BEST, "5-0", user=ALICE)
                await add(redis, BEST, "6-0", user=BOB)
                await redis.client_kill_filter(_type="normal", skipme=True)
                assert await one.ends()
                last = one.last_id
            assert last == "9-0"
            await until(lambda: admitted(server), "room")
            async with listening(server, last_id=last) as back:
                assert (await back.next())[0] == "missed"
                await add(redis, BEST, "7-0", user=ALICE)
                assert (await back.next())[0] == "best"


async def test_listeners_of_one_address_are_limited_and_make_room_when_they_leave(
    server: Server,
) -> None:
    async with contextlib.AsyncExitStack() as three:
        for _ in range(3):
            await three.enter_async_context(listening(server))
        assert server.get("/v1/events").status == 429

    await until(lambda: admitted(server), "room")
    for wrong in ("x", "1-2-3", "-1"):
        assert server.get("/v1/events", Last_Event_ID=wrong).status == 422


async def test_the_server_ends_though_somebody_listens(server: Server) -> None:
    async with listening(server):
        server.process.send(15)
        assert await server.process.ended() == 0


async def test_without_redis_listeners_are_let_go(
    database_url: str, tmp_path: Path, valkey_server: Any
) -> None:
    store = valkey_server()
    with served(database_url, store.url, tmp_path) as server:
        async with listening(server) as one:
            await asyncio.to_thread(store.stop)
            assert await one.ends()
        await until(lambda: server.get("/v1/events").status == 503, "a reason")


async def test_events_of_every_cell_are_there_also_on_the_way_back(
    database_url: str, redis_url: str, redis: Any, tmp_path: Path
) -> None:
    cells = [in_cell(BLOCK, cell) for cell in ("eu1", "us1", "")]
    with served(database_url, redis_url, tmp_path, SERVE_CELLS="eu1, us1") as server:
        async with listening(server) as one:
            for height, key in enumerate(cells):
                await add(redis, key, user=BOB, height=height)
            heights = [(await one.next())[1]["height"] for _ in cells]
            assert sorted(heights) == [0, 1, 2]
            seen = one.last_id
        for height, key in enumerate(cells):
            await add(redis, key, user=BOB, height=3 + height)
        async with listening(server, last_id=seen) as back:
            heights = [(await back.next())[1]["height"] for _ in cells]
            assert sorted(heights) == [3, 4, 5]


async def test_what_is_written_at_once_into_several_streams_is_told_to_who_comes_and_goes(
    database_url: str, redis_url: str, redis: Any, tmp_path: Path
) -> None:
    """Redis wakes the reader with the first of them, and entries of a millisecond share ids."""
    told: list[int] = []
    last: str | None = None
    with served(database_url, redis_url, tmp_path) as server:
        async with listening(server):  # the reader is at work throughout
            for batch in range(20):
                async with listening(server, last_id=last) as one:
                    batched = redis.pipeline(transaction=False)
                    for number, stream in enumerate((BEST, BEST, BLOCK, BLOCK_STATUS_STREAM)):
                        batched.xadd(stream, entry_of(stream, user=BOB, height=4 * batch + number))
                    await batched.execute()
                    # It goes in the middle of what came at once.
                    while len(told) < 4 * batch + 1 or one.last_id is None:
                        told.append((await one.next())[1]["height"])
                    last = one.last_id
                async with listening(server, last_id=last) as one:
                    while len(set(told)) < 4 * batch + 4:
                        async with asyncio.timeout(LIMIT):
                            told.append((await one.next())[1]["height"])
                    last = one.last_id
    assert set(told) == set(range(80))
