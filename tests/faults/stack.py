"""The whole daemon between real servers, and what must hold of it."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import redis.asyncio as redis_async

from tbg.migrate import migrate
from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults import disk, redis_tail
from tests.faults.engine import Engine
from tests.faults.judge import Excuses
from tests.faults.proxy import Proxy
from tests.ingest.harness import Stage, stage
from tests.processes import LIMIT
from tests.settled import committed

REDIS_TIMEOUT = 1.0  # seconds until the receiver takes Redis for away
RATE = 1500  # events a second

_SUMS = """
select
    coalesce(sum(emitted), 0)::bigint as emitted,
    coalesce(sum(committed), 0)::bigint as committed,
    coalesce(sum(dead_lettered), 0)::bigint as dead_lettered,
    coalesce(sum(duplicates), 0)::bigint as duplicates,
    coalesce(sum(dropped), 0)::bigint as dropped,
    coalesce(sum(missing), 0)::bigint as missing,
    coalesce(sum(unexplained), 0)::bigint as unexplained
from ledger_hours where instance = $1
"""
# What is there, counted from the rows: numbers that were sent and are in none of them
# are lost, whatever the ledger says.
_ROWS = """
with stored as (
    select seq from shares where instance_id = $1
    union all
    select seq from mining_events where instance_id = $1
)
select
    (select count(*) from stored) as stored,
    (select count(distinct seq) from stored) as distinct,
    (
        select count(*) from generate_series(1, $3::bigint) as n
        where n not in (select seq from stored)
          and n not in (select seq from dead_letters where instance = $2 and seq is not null)
    ) as lost
"""
_WEEKLY = """
select
    (select count(*) from shares s where s.user_id = u.id and is_valid) as raw_shares,
    (select sum(difficulty) from shares s where s.user_id = u.id and is_valid) as raw_work,
    (select max(share_diff) from shares s where s.user_id = u.id and is_valid) as raw_best,
    sum(total_shares)::bigint as shares, sum(total_work) as work, max(best_difficulty) as best
from users u join weekly_standings w on w.user_id = u.id
where u.btc_address = $1 group by u.id
"""


@dataclass
class Account:
    """What became of one engine's events."""

    emitted: int
    committed: int
    dead_lettered: int
    duplicates: int
    dropped: int
    missing: int
    unexplained: int
    doubled: int = 0


class Stack:
    """Servers, proxies in front of them, and both stages."""

    def __init__(
        self,
        folder: Path,
        valkey: EmbeddedValkey,
        postgres: EmbeddedPostgres,
        redis: Proxy,
        database: Proxy,
        receiver: Stage,
        writer: Stage,
    ) -> None:
        self.folder = folder
        self.spool = Path(receiver.environment["SPOOL_DIR"])
        self.valkey = valkey
        self.postgres = postgres
        self.redis = redis
        self.database = database
        self.receiver = receiver
        self.writer = writer
        self.markers = 0
        self.excuses = Excuses()
        self.redis_clock: redis_tail.Clock | None = None
        self._receivers = 0
        self._say_receiver()

    def _say_receiver(self) -> None:
        # In one step: a reader never finds the file empty.
        new = self.folder / "receiver.new"
        new.write_text(str(self._receivers))
        new.replace(self.folder / "receiver")

    async def end_receiver(self, *, kill: bool = True) -> None:
        """Ends the receiver, and says that the next one is another."""
        if kill:
            await self.receiver.kill()
            self.excuses.killed.add(self._receivers)
        else:
            assert await self.receiver.stop() == 0
        self._receivers += 1
        self._say_receiver()

    def start_valkey(self) -> None:
        """Starts Redis again, with the clock that it has."""
        with contextlib.nullcontext() if self.redis_clock is None else self.redis_clock.given():
            self.valkey.start()

    def set_redis_clock(self, seconds: float) -> None:
        """Makes the clock of Redis wrong by so much, if it has one that can be."""
        if self.redis_clock is not None:
            self.redis_clock.set(seconds)

    def segments(self) -> list[Path]:
        """The files of the spool that hold something."""
        found = []
        for path in self.spool.glob("*.spool"):
            with contextlib.suppress(FileNotFoundError):  # it was given back
                if path.stat().st_size:
                    found.append(path)
        return found

    async def connect(self) -> asyncpg.Connection:
        """A connection to the database itself, past the proxy, however long it recovers."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                return await asyncpg.connect(self.postgres.url, timeout=5)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                assert time.monotonic() < deadline, "the database does not come back"
                await asyncio.sleep(0.05)

    def heal(self) -> None:
        """Undoes whatever a fault may have left."""
        for proxy in (self.redis, self.database):
            proxy.delay, proxy.deaf, proxy.cut_after, proxy.refusing = 0.0, False, None, False
            proxy.release()
        self.set_clock(0)
        self.set_redis_clock(0)
        (self.spool / disk.BALLAST).unlink(missing_ok=True)

    def set_clock(self, seconds: float) -> None:
        """Makes the daemon's own clock wrong by so much."""
        # In one step: a reader never finds the file empty.
        new = self.folder / "clock.new"
        new.write_text(str(seconds))
        new.replace(self.folder / "clock")

    def engine(self, name: str, seed: str, rate: int = RATE, *, resends: bool = True) -> Engine:
        """An engine, not yet started."""
        return Engine(self.folder / "events.sock", name, rate, seed, resends=resends)

    def client(self) -> "redis_async.Redis":
        """A client of the server itself, past the proxy."""
        return redis_async.Redis.from_url(self.valkey.url, decode_responses=True)

    async def pause(self, victim: Stage | EmbeddedPostgres | EmbeddedValkey, for_: float) -> None:
        """Stops a process and all its children, and lets them go on."""
        assert victim.process is not None
        parent = psutil.Process(victim.process.pid)
        # Parent first: PostgreSQL's would otherwise see its children stop.
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(for_)
        finally:
            for process in reversed(family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    async def kill_a_backend(self, draw: random.Random) -> None:
        """kill -9 of one of PostgreSQL's processes: all its sessions end, and it recovers."""
        assert self.postgres.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself
            if children := psutil.Process(self.postgres.process.pid).children():
                draw.choice(children).kill()

    async def settled(self, engine: Engine, seq: int, within: float = LIMIT) -> float:
        """Waits until everything up to a number is committed or written off.

        Returns:
            Seconds that it took.
        """
        begun = time.monotonic()
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self.postgres.url, timeout=5)
                try:
                    while time.monotonic() < begun + within:
                        seen = await connection.fetchval(
                            "select seq_max from engine_instances where instance = $1", engine.name
                        )
                        if seen is not None and seen >= seq:
                            return time.monotonic() - begun
                        await asyncio.sleep(0.02)
                finally:
                    await connection.close(timeout=5)
            assert time.monotonic() < begun + within, (
                f"{engine.name} {seq} is not there after {within:.0f} s\n"
                + self.receiver.log.read_text()[-1500:]
                + self.writer.log.read_text()[-1500:]
            )
            await asyncio.sleep(0.05)

    async def unspooled(self, within: float = LIMIT) -> None:
        """Waits until the spool is empty, as long as something is given back."""
        deadline, before = time.monotonic() + within, b""
        while left := self.segments():
            with contextlib.suppress(FileNotFoundError):
                # How far the oldest file was given back.
                if before != (before := (self.spool / "cursor").read_bytes()):
                    deadline = time.monotonic() + within
            assert time.monotonic() < deadline, f"the spool keeps {left}"
            await asyncio.sleep(0.02)

    async def drained(self, engine: Engine) -> None:
        """Ends an engine and waits until nothing of it is on its way."""
        await asyncio.to_thread(engine.stop)
        await self.unspooled()  # a full spool would drop the last event
        last = await asyncio.to_thread(engine.send)
        engine.close()
        await self.settled(engine, last)
        await self.reported()
        # What was sent twice, or has no row, may be on another stream, and behind.
        client = self.client()
        async with contextlib.aclosing(client):
            connection = await self.connect()
            try:
                await committed(connection, client)
            finally:
                await connection.close(timeout=5)

    async def reported(self, within: float = LIMIT) -> None:
        """Waits until the ledger holds what the receiver counted so far.

        Reports come once a second: the first that names an engine of its own, which
        begins only now, holds everything that was packed before. What Redis had already is
        counted when a batch is published, and may be in the report after that one.
        """
        await self._marked(within)
        await self._marked(within)

    async def _marked(self, within: float) -> None:
        self.markers += 1
        name = f"marker-{self.markers}"
        marker = self.engine(name, name, resends=False)
        deadline = time.monotonic() + within
        connection = await self.connect()
        try:
            while not await connection.fetchval(
                "select coalesce(sum(received), 0) from ledger_hours where instance = $1", name
            ):
                assert time.monotonic() < deadline, self.receiver.log.read_text()[-1500:]
                await asyncio.to_thread(marker.send)
                await asyncio.sleep(0.25)
        finally:
            marker.close()
            await connection.close(timeout=5)

    async def account(self, engine: Engine) -> Account:
        """Checks what must hold of one drained engine, and returns its sums.

        The rows and the numbers sent are the judge: the ledger agrees with them, nothing
        is stored twice, weekly totals are those of the raw shares.
        """
        db = await self.connect()
        try:
            number = await db.fetchval(
                "select id from engine_instances where instance = $1", engine.name
            )
            sums = Account(**dict(await db.fetchrow(_SUMS, engine.name) or {}))
            rows = await db.fetchrow(_ROWS, number, engine.name, engine.sent)
            letters = await db.fetchval(
                "select count(*) from dead_letters where instance = $1", engine.name
            )
            weekly = await db.fetchrow(_WEEKLY, engine.name)
        finally:
            await db.close(timeout=5)
        assert rows is not None
        assert weekly is not None
        assert sums.emitted == engine.sent
        assert rows["lost"] == sums.missing, (rows, sums)
        assert sums.emitted == sums.committed + sums.dead_lettered + sums.missing, sums
        assert sums.unexplained == sums.missing - sums.dropped
        assert rows["stored"] == rows["distinct"] == sums.committed, (rows, sums)
        assert letters == sums.dead_lettered
        assert weekly["raw_shares"] == weekly["shares"]
        assert weekly["raw_work"] == weekly["work"]
        assert weekly["raw_best"] == weekly["best"]
        if not sums.missing:
            assert sums.dead_lettered == engine.broken
            assert sums.duplicates >= engine.resent, (sums, engine.resent)
        sums.doubled = rows["stored"] - rows["distinct"]
        return sums


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    **settings: str,
) -> AsyncIterator[Stack]:
    """A stack; ``settings`` are the stages'."""
    # Redis confirms only what it has written out, so that its crash loses nothing.
    valkey = valkey_server(appendfsync="always")
    postgres = postgres_server(autovacuum="off")
    await asyncio.to_thread(migrate, postgres.url)
    redis = await Proxy(valkey.port).start()
    database = await Proxy(postgres.port).start()
    clock = folder / "clock"
    clock.write_text("0")
    settings = {
        "REDIS_TIMEOUT": str(REDIS_TIMEOUT),
        "TBG_TEST_CLOCK": str(clock),
        "PYTHONPATH": str(Path(__file__).parent / "wrong_clock"),
        **settings,
    }
    try:
        async with (
            stage("receiver", folder, redis.url(valkey.url), **settings) as receiver,
            stage(
                "writer", folder, redis.url(valkey.url), database.url(postgres.url), **settings
            ) as writer,
        ):
            yield Stack(folder, valkey, postgres, redis, database, receiver, writer)
    finally:
        await redis.close()
        await database.close()
