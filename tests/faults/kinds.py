"""The kinds of faults: each breaks something, and mends what does not mend itself."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.faults import redis_tail
from tests.faults.crew import Crew
from tests.faults.disk import BALLAST, damage, fill, possible
from tests.faults.program import HOUR
from tests.faults.proxy import Proxy
from tests.faults.stack import REDIS_TIMEOUT, Stack
from tests.processes import until

Fault = Callable[[Stack, Crew, random.Random], Awaitable[None]]
KINDS: dict[str, Fault] = {}


def _kind(name: str) -> Callable[[Fault], Fault]:
    def note(fault: Fault) -> Fault:
        KINDS[name] = fault
        return fault

    return note


@_kind("receiver killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.end_receiver()
    await asyncio.sleep(draw.uniform(0, 0.3))
    await stack.receiver.start()


@_kind("writer killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.writer.kill()
    await asyncio.sleep(draw.uniform(0, 0.3))
    await stack.writer.start()


@_kind("Redis killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await asyncio.to_thread(stack.valkey.kill)
    await asyncio.sleep(draw.uniform(0, 1.0))
    await asyncio.to_thread(stack.start_valkey)


@_kind("PostgreSQL killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await asyncio.to_thread(stack.postgres.kill)
    await asyncio.sleep(draw.uniform(0, 1.0))
    await asyncio.to_thread(stack.postgres.start)


@_kind("PostgreSQL backend killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.kill_a_backend(draw)


@_kind("everything killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await asyncio.to_thread(stack.postgres.kill)
    await stack.end_receiver()
    await asyncio.to_thread(stack.valkey.kill)
    await stack.writer.kill()
    await asyncio.to_thread(stack.start_valkey)
    await asyncio.to_thread(stack.postgres.start)
    await asyncio.gather(stack.receiver.start(), stack.writer.start())


@_kind("receiver stopped")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.pause(stack.receiver, draw.uniform(0.05, 0.8))


@_kind("writer stopped")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.pause(stack.writer, draw.uniform(0.05, 0.8))


@_kind("Redis stopped")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    # Shorter and longer than the receiver's patience.
    await stack.pause(stack.valkey, draw.uniform(0.1, 3 * REDIS_TIMEOUT))


@_kind("PostgreSQL stopped")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.pause(stack.postgres, draw.uniform(0.1, 1.0))


@_kind("Redis connections cut in mid-batch")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _cut(stack.redis.cuts, stack, draw, redis=True)


@_kind("PostgreSQL connection cut in mid-batch")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _cut(stack.database.cuts, stack, draw, redis=False)


async def _cut(before: int, stack: Stack, draw: random.Random, *, redis: bool) -> None:
    proxy = stack.redis if redis else stack.database
    proxy.cut_after = draw.randrange(1, 60_000)
    await until(lambda: proxy.cuts > before, "something is cut")


@_kind("Redis answer lost")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    stack.redis.deaf = True
    await asyncio.sleep(draw.uniform(0.05, 0.3))


@_kind("PostgreSQL answer lost")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await asyncio.sleep(draw.uniform(0, 0.2))
    stack.database.deaf = True
    await asyncio.sleep(draw.uniform(0.05, 0.3))


@_kind("Redis slow")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    stack.redis.delay = draw.uniform(0.01, 0.1)
    await asyncio.sleep(draw.uniform(0.3, 1.0))
    stack.redis.delay = 0.0


@_kind("PostgreSQL slow")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    stack.database.delay = draw.uniform(0.01, 0.1)
    await asyncio.sleep(draw.uniform(0.3, 1.0))
    stack.database.delay = 0.0


@_kind("table locked")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    table = draw.choice(["shares", "ledger", "weekly_best_diff", "engine_instances"])
    connection = await stack.connect()
    try:
        async with connection.transaction():
            await connection.execute(f"lock table {table} in access exclusive mode")
            await asyncio.sleep(draw.uniform(0.2, 1.2))
    finally:
        await connection.close(timeout=5)


@_kind("Redis full")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    client = stack.client()
    try:
        await client.config_set("maxmemory", "1mb")  # less than it uses
        await asyncio.sleep(draw.uniform(0.2, 1.2))
        await client.config_set("maxmemory", "0")
    finally:
        await client.aclose()


@_kind("engine's clock jumps")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    for _ in range(4):
        # Weeks and hours back; ahead within what is accepted, and beyond it.
        crew.clock(draw.choice([-24 * 14, -26, -1, 0, 2, -24 * 100]) * HOUR + HOUR // 3)
        await asyncio.sleep(0.15)
    crew.clock(0)


@_kind("daemon's clock jumps")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    # Hours both ways within what events may be ahead, then days: events then lie in the
    # future, or before retention, and are refused with their bytes.
    stack.excuses.misjudged = True
    for hours in [*draw.sample([-0.9, 0.9, -0.5, 5.0], 3), draw.choice([-24.0 * 14, 24.0 * 100])]:
        stack.set_clock(hours * 3600)
        await asyncio.sleep(0.15)
    stack.set_clock(0)


@_kind("restart storm")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    for _ in range(3):
        await asyncio.gather(stack.end_receiver(), stack.writer.kill())
        await asyncio.gather(stack.receiver.start(), stack.writer.start())


@_kind("both stages restarted by SIGTERM")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    code, _ = await asyncio.gather(stack.writer.stop(), stack.end_receiver(kill=False))
    assert not code
    await asyncio.gather(stack.receiver.start(), stack.writer.start())


# --- Engines ---------------------------------------------------------------------------


@_kind("engine killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    engine = crew.one(draw)
    await engine.kill()
    await engine.start()


@_kind("engine stopped")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    engine = crew.one(draw)
    await engine.stop()
    await engine.start()


@_kind("engine killed before a receiver that stands still")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    engine = crew.one(draw)
    stack.receiver.process.freeze()
    try:
        await crew.burst(draw.randrange(1, 1000))
        await engine.kill()
    finally:
        stack.receiver.process.send(signal.SIGCONT)
    await engine.start()


@_kind("engine killed without a receiver")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _without_receiver(stack, crew, draw, kill=True)


@_kind("engine stopped without a receiver")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _without_receiver(stack, crew, draw, kill=False)


async def _without_receiver(stack: Stack, crew: Crew, draw: random.Random, *, kill: bool) -> None:
    engine = crew.one(draw)
    await stack.end_receiver(kill=draw.random() < 0.5)
    await crew.burst(draw.randrange(1, 500))
    await (engine.kill() if kill else engine.stop())
    # The next boot vouches for this one, or the receiver does, whichever comes first.
    await asyncio.gather(engine.start(), stack.receiver.start())


@_kind("engine and receiver killed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    engine = crew.one(draw)
    await crew.burst(draw.randrange(1, 1000))
    if draw.random() < 0.5:
        await stack.end_receiver()
        await engine.kill()
    else:
        await engine.kill()
        await stack.end_receiver()
    await asyncio.gather(engine.start(), stack.receiver.start())


@_kind("receiver killed while it catches up")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await stack.end_receiver()
    await crew.burst(draw.randrange(500, 3000))
    for _ in range(3):
        await stack.receiver.start()
        await asyncio.sleep(draw.uniform(0, 0.4))
        await stack.end_receiver()
    await stack.receiver.start()


@_kind("socket's file removed")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    (stack.folder / "events.sock").unlink(missing_ok=True)
    await asyncio.sleep(draw.uniform(0, 1.2))


# --- Requests that come late -----------------------------------------------------------


@_kind("request to Redis comes late")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _held(stack.redis)
    await asyncio.sleep(draw.uniform(REDIS_TIMEOUT, 2 * REDIS_TIMEOUT))
    stack.redis.release()


@_kind("request of a killed receiver comes late")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _held(stack.redis)
    await stack.end_receiver()
    await stack.receiver.start()
    await asyncio.sleep(draw.uniform(0, 0.5))
    stack.redis.release()


@_kind("request of a killed writer comes late")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await _held(stack.database)
    await stack.writer.kill()
    starting = asyncio.create_task(stack.writer.start())
    await asyncio.sleep(draw.uniform(0, 0.5))
    stack.database.release()
    await starting


async def _held(proxy: Proxy) -> None:
    before = proxy.held

    def held() -> bool:
        proxy.hold()  # those who have just come back, too
        return proxy.held > before

    await until(held, "something is held")


# --- A Redis that comes back with less ---------------------------------------------------


@_kind("Redis lost its end")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await asyncio.to_thread(stack.valkey.kill)
    stack.excuses.tail |= redis_tail.cut(stack.valkey, draw)
    await asyncio.to_thread(stack.start_valkey)


@_kind("Redis lost its end, and its clock is behind")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    await asyncio.to_thread(stack.valkey.kill)
    stack.excuses.tail |= redis_tail.cut(stack.valkey, draw)
    stack.set_redis_clock(-draw.uniform(0.5, 20))
    await asyncio.to_thread(stack.start_valkey)
    await asyncio.sleep(draw.uniform(0, 1.0))
    stack.set_redis_clock(0)


@_kind("Redis's clock jumps")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    for _ in range(3):
        stack.set_redis_clock(draw.uniform(-5, 2))
        await asyncio.sleep(draw.uniform(0, 0.2))
    stack.set_redis_clock(0)


# --- The spool ---------------------------------------------------------------------------


@_kind("spool damaged")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    async with _spooling(stack):
        await asyncio.sleep(draw.uniform(0, 0.4))
        stack.excuses.damaged |= damage(draw.choice(stack.segments()), draw, end=False)


@_kind("spool damaged while no receiver runs")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    async with _spooling(stack):
        await asyncio.sleep(draw.uniform(0, 0.4))
        await stack.end_receiver()
        if segments := stack.segments():
            stack.excuses.damaged |= damage(draw.choice(segments), draw, end=True)
        await stack.receiver.start()


@_kind("disk full under the spool")
async def _(stack: Stack, crew: Crew, draw: random.Random) -> None:
    async with _spooling(stack):
        if possible():  # without root, the spool lies on the machine's own disk
            stack.excuses.disk_full = True
            fill(stack.spool)
        await crew.burst(draw.randrange(1, 500))
        await asyncio.sleep(draw.uniform(0, 0.5))
        (stack.spool / BALLAST).unlink(missing_ok=True)
        await asyncio.sleep(draw.uniform(0, 0.2))


@contextlib.asynccontextmanager
async def _spooling(stack: Stack) -> AsyncIterator[None]:
    """Nobody reaches Redis in the block, and something is in the spool at its beginning."""
    stack.redis.refusing = True
    stack.redis.cut()
    try:
        await until(stack.segments, "something is in the spool")
        yield
    finally:
        stack.redis.refusing = False
