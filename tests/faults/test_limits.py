"""The stated limits, reached on purpose: what is dropped is counted, and it recovers.

Redis at its memory limit, the spool at its own, a full disk under the spool and
under the database; and no memory that grows meanwhile.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey, new_password
from tests.conftest import started
from tests.faults.conftest import Tell
from tests.faults.disk import BALLAST, fill, mounted
from tests.faults.stack import running

MIB = 2**20


async def test_a_flood_without_a_database_takes_no_memory_and_is_accounted_for(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    flood_events: int,
    tell: Tell,
    note: Callable[[str], None],
) -> None:
    """Redis fills, then the spool, then events are dropped; then the database is back."""
    async with running(
        tmp_path,
        valkey_server,
        postgres_server,
        SPOOL_MAX_BYTES=str(32 * MIB),
        MEMORY_EVENTS="20000",
    ) as stack:
        client = stack.client()
        # The stream's hard limit: a share takes about 700 bytes there.
        await client.config_set("maxmemory", str(24 * MIB))
        await asyncio.to_thread(stack.postgres.stop)
        engine = stack.engine("flood", "flood", rate=0, resends=False).start()
        highest = {"receiver": 0, "writer": 0}
        begun = time.monotonic()
        for events in (flood_events // 3, flood_events):
            settled = dict(highest)
            while engine.sent < events:
                await asyncio.sleep(0.1)
                for name, stage in (("receiver", stack.receiver), ("writer", stack.writer)):
                    now = psutil.Process(stage.process.pid).memory_info().rss
                    highest[name] = max(highest[name], now)
        rate = engine.sent / (time.monotonic() - begun)
        await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(stack.postgres.start)
        begun = time.monotonic()
        # By itself: nobody raises the limit, empties Redis or restarts a stage.
        await stack.drained(engine)
        recovery = time.monotonic() - begun
        sums = await stack.account(engine)
        await client.aclose()
    assert sums.dropped > 0
    assert sums.unexplained == 0
    # The same at the end as after a third: nothing grows with what is sent.
    for name, rss in highest.items():
        assert rss < settled[name] + 32 * MIB, (name, settled, highest)
    tell("flood: Redis and spool full", sums, recovery)
    note(
        f"flood of {engine.sent:,} events at {rate:,.0f}/s without a database: resident memory "
        + ", ".join(
            f"{name} {rss / MIB:.0f} MiB (after a third {settled[name] / MIB:.0f})"
            for name, rss in highest.items()
        )
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    with mounted(folder, "1m"):
        yield folder


@pytest.fixture
def small_postgres(server_folder: Path) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server, and the small file system that it is on."""
    disk = server_folder / "disk"
    with mounted(disk, "256m"):
        server = started(lambda port: EmbeddedPostgres(disk / "postgres", port, new_password()))
        try:
            yield server, disk
        finally:
            server.stop()


async def test_a_full_disk_under_the_spool_drops_and_counts_and_recovers(
    tmp_path: Path,
    small_disk: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    tell: Tell,
) -> None:
    async with running(
        tmp_path, valkey_server, postgres_server, SPOOL_DIR=str(small_disk / "spool")
    ) as stack:
        await asyncio.to_thread(stack.valkey.stop)
        # Not even a byte for the spool's own notes is left.
        engine = stack.engine("disk-full", "disk-full", resends=False).start()
        await stack.receiver.process.saying("events lost")
        fill(small_disk)
        await asyncio.to_thread(stack.valkey.start)
        begun = time.monotonic()
        await stack.receiver.process.saying("redis is back")
        await stack.drained(engine)
        recovery = time.monotonic() - begun
        sums = await stack.account(engine)
        assert stack.receiver.process.returncode is None
    assert sums.dropped > 0
    assert sums.unexplained == 0
    tell("disk full under the spool", sums, recovery)


@contextlib.asynccontextmanager
async def supervised(server: EmbeddedPostgres) -> AsyncIterator[None]:
    """Starts a server again that ended.

    A full disk under its log makes PostgreSQL panic, and end when it cannot recover.
    """
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            if server.process is not None and server.process.poll() is not None:
                await asyncio.to_thread(server.start)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        try:
            yield
        finally:
            done.set()


async def test_a_full_disk_under_the_database_waits_and_recovers(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    small_postgres: tuple[EmbeddedPostgres, Path],
    tell: Tell,
) -> None:
    postgres, disk = small_postgres
    async with running(tmp_path, valkey_server, lambda **_: postgres) as stack:
        engine = stack.engine("disk-full", "disk-full").start()
        await stack.settled(engine, 500)
        fill(disk)
        await stack.writer.process.saying("cannot commit")
        await asyncio.sleep(1)
        (disk / BALLAST).unlink()
        begun = time.monotonic()
        async with supervised(postgres):
            await stack.settled(engine, engine.sent + 1)
            recovery = time.monotonic() - begun
            await stack.drained(engine)
            sums = await stack.account(engine)
    assert sums.missing == 0
    tell("disk full under the database", sums, recovery)
