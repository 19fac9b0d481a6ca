"""The kinds of faults: each breaks something, and mends what does not mend itself."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg

from tests.faults.engine import Engine
from tests.faults.stack import REDIS_TIMEOUT, Stack
from tests.processes import until

Fault = Callable[[Stack, Engine, random.Random], Awaitable[None]]
KINDS: dict[str, Fault] = {}
# Kinds that may lose what a killed receiver held, or the kernel held for it; how
# many kills each has at most.
KILLS_RECEIVER = {"receiver killed": 1, "restart storm": 3, "everything killed": 1}

_HOUR = 3_600_000_000  # microseconds


def _kind(name: str) -> Callable[[Fault], Fault]:
    def note(fault: Fault) -> Fault:
        KINDS[name] = fault
        return fault

    return note


@_kind("receiver killed")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await stack.receiver.kill()
    await asyncio.sleep(draw.uniform(0, 0.3))
    await stack.receiver.start()


@_kind("writer killed")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await stack.writer.kill()
    await asyncio.sleep(draw.uniform(0, 0.3))
    await stack.writer.start()


@_kind("Redis killed")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await asyncio.to_thread(stack.valkey.kill)
    await asyncio.sleep(draw.uniform(0, 1.0))
    await asyncio.to_thread(stack.valkey.start)


@_kind("PostgreSQL killed")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await asyncio.to_thread(stack.postgres.kill)
    await asyncio.sleep(draw.uniform(0, 1.0))
    await asyncio.to_thread(stack.postgres.start)


@_kind("PostgreSQL backend killed")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await stack.kill_a_backend(draw)


@_kind("everything killed")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await asyncio.to_thread(stack.postgres.kill)
    await stack.receiver.kill()
    await asyncio.to_thread(stack.valkey.kill)
    await stack.writer.kill()
    await asyncio.to_thread(stack.valkey.start)
    await asyncio.to_thread(stack.postgres.start)
    await asyncio.gather(stack.receiver.start(), stack.writer.start())


@_kind("receiver stopped")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await stack.pause(stack.receiver, draw.uniform(0.05, 0.8))


@_kind("writer stopped")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await stack.pause(stack.writer, draw.uniform(0.05, 0.8))


@_kind("Redis stopped")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    # Shorter and longer than the receiver's patience.
    await stack.pause(stack.valkey, draw.uniform(0.1, 3 * REDIS_TIMEOUT))


@_kind("PostgreSQL stopped")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await stack.pause(stack.postgres, draw.uniform(0.1, 1.0))


@_kind("Redis connections cut in mid-batch")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await _cut(stack.redis.cuts, stack, draw, redis=True)


@_kind("PostgreSQL connection cut in mid-batch")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await _cut(stack.database.cuts, stack, draw, redis=False)


async def _cut(before: int, stack: Stack, draw: random.Random, *, redis: bool) -> None:
    proxy = stack.redis if redis else stack.database
    proxy.cut_after = draw.randrange(1, 60_000)
    await until(lambda: proxy.cuts > before, "something is cut")


@_kind("Redis answer lost")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    stack.redis.deaf = True
    await asyncio.sleep(draw.uniform(0.05, 0.3))


@_kind("PostgreSQL answer lost")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    await asyncio.sleep(draw.uniform(0, 0.2))
    stack.database.deaf = True
    await asyncio.sleep(draw.uniform(0.05, 0.3))


@_kind("Redis slow")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    stack.redis.delay = draw.uniform(0.01, 0.1)
    await asyncio.sleep(draw.uniform(0.3, 1.0))
    stack.redis.delay = 0.0


@_kind("PostgreSQL slow")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    stack.database.delay = draw.uniform(0.01, 0.1)
    await asyncio.sleep(draw.uniform(0.3, 1.0))
    stack.database.delay = 0.0


@_kind("table locked")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    table = draw.choice(["shares", "ledger", "weekly_best_diff", "engine_instances"])
    connection = await asyncpg.connect(stack.postgres.url)
    try:
        async with connection.transaction():
            await connection.execute(f"lock table {table} in access exclusive mode")
            await asyncio.sleep(draw.uniform(0.2, 1.2))
    finally:
        await connection.close(timeout=5)


@_kind("Redis full")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    client = stack.client()
    try:
        await client.config_set("maxmemory", "1mb")  # less than it uses
        await asyncio.sleep(draw.uniform(0.2, 1.2))
        await client.config_set("maxmemory", "0")
    finally:
        await client.aclose()


@_kind("engine's clock jumps")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    for _ in range(4):
        # Weeks and hours back; ahead within what is accepted, and beyond it.
        engine.clock = draw.choice([-24 * 14, -26, -1, 0, 2, -24 * 100]) * _HOUR + _HOUR // 3
        await asyncio.sleep(0.15)
    engine.clock = 0


@_kind("daemon's clock jumps")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    # Hours both ways within what events may be ahead, then days: events then lie in the
    # future, or before retention, and are refused with their bytes.
    for hours in [*draw.sample([-0.9, 0.9, -0.5, 5.0], 3), draw.choice([-24.0 * 14, 24.0 * 100])]:
        engine.misjudged |= abs(hours) > 24
        stack.set_clock(hours * 3600)
        await asyncio.sleep(0.15)
    stack.set_clock(0)


@_kind("restart storm")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    for _ in range(3):
        await asyncio.gather(stack.receiver.kill(), stack.writer.kill())
        await asyncio.gather(stack.receiver.start(), stack.writer.start())


@_kind("both stages restarted by SIGTERM")
async def _(stack: Stack, engine: Engine, draw: random.Random) -> None:
    codes = await asyncio.gather(stack.receiver.stop(), stack.writer.stop())
    assert not any(codes), codes
    await asyncio.gather(stack.receiver.start(), stack.writer.start())
