"""Each stage by itself, beside what the machine does at best of the same work."""

import asyncio
import socket
import threading
import time
from collections import defaultdict
from datetime import timedelta
from itertools import chain, islice
from typing import Any, Final, cast

import asyncpg
import hiredis
import msgspec
import psutil
import psycopg
import redis.asyncio as redis_async

from bench.figures import Report
from bench.load import Load, datagrams
from bench.stack import Servers, cpu_seconds, stage, wait_for_rows
from ingest.receiver.datagram import EventSocket
from ingest.receiver.publisher import Publisher
from ingest.writer.codecs import pack_inet, prepare
from ingest.writer.offsets import Offsets
from ingest.writer.rows import Row, parse
from ingest.writer.store import Store
from ingest.writer.streams import Streams
from ingest.writer.tables import SHARE_COLUMNS
from tbg_core.decode import decode
from tbg_core.entry import FIELDS, Batch, Entry, event_values
from tbg_core.flavour import fetch_flavour
from tbg_core.names import EVENT_STREAMS, stream_of

PART: Final = "alone"
SHARES: Final = stream_of("share_submitted")


def receive(report: Report, servers: Servers, count: int) -> None:
    """The reading thread, and a bare recv loop."""
    folder = servers.new_folder()
    bare_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bare_socket.bind(str(folder / "bare.sock"))
    load = Load(folder / "bare.sock", "flood", count)
    load.go()
    bare_socket.recv(8193)
    begun = time.monotonic()
    for _ in range(count - 1):
        bare_socket.recv(8193)
    bare = (count - 1) / (time.monotonic() - begun)
    load.result()
    bare_socket.close()

    events = EventSocket(
        folder / "events.sock", mode=0o600, group="", queue_length=4096, limit=200_000
    )
    arrived = threading.Event()
    events.start(arrived.set)
    load = Load(folder / "events.sock", "flood", count)
    load.go()
    if events.wait():
        arrived.wait()
    begun = time.monotonic()
    taken = 0
    while taken < count:
        found = len(events.take(10_000))
        events.release(found)
        taken += found
        time.sleep(0.001)
    seconds = time.monotonic() - begun
    load.result()
    events.stop()
    report.add(
        PART, "receive", count / seconds, "events/s", limit=bare, limit_is="a bare recv loop"
    )


def decoding(report: Report, count: int) -> None:
    """Contract checks, and JSON alone."""
    made = list(datagrams(count))
    begun = time.perf_counter()
    for datagram in made:
        decode(datagram)
    ours = count / (time.perf_counter() - begun)
    parse_json = msgspec.json.Decoder().decode
    begun = time.perf_counter()
    for datagram in made:
        parse_json(datagram)
    bare = count / (time.perf_counter() - begun)
    report.add(
        PART,
        "decode and check",
        ours,
        "events/s",
        limit=bare,
        limit_is="msgspec to plain dictionaries, unchecked",
    )


def publish(report: Report, servers: Servers, count: int) -> None:
    """The publisher's batches, and packed XADDs on a bare connection."""
    entries = [event_values(decode(datagram)) for datagram in datagrams(count)]
    size = 1000
    batches = [
        Batch(
            "mining:receiver:bench",
            str(at),
            {SHARES: list(chain(*entries[at : at + size]))},
            len(entries[at : at + size]),
        )
        for at in range(0, count, size)
    ]
    names = FIELDS[SHARES]

    async def ours() -> float:
        publisher = Publisher(servers.valkey.url, 10)
        begun = time.perf_counter()
        for batch in batches:
            await publisher.publish(batch)
        seconds = time.perf_counter() - begun
        await publisher.close()
        return count / seconds

    servers.client()
    rate = asyncio.run(ours())
    servers.client()
    packed = [
        b"".join(
            hiredis.pack_command(
                cast(Any, (b"XADD", SHARES, b"*", *chain(*zip(names, values, strict=True))))
            )
            for values in entries[at : at + size]
        )
        for at in range(0, count, size)
    ]
    bare = _blast(servers, packed, size)
    servers.client()
    report.add(
        PART,
        "XADD (Publisher, atomic batches of 1,000)",
        rate,
        "events/s",
        limit=bare,
        limit_is="ready-packed XADDs, pipelined on a bare connection",
    )


def _blast(servers: Servers, packed: list[bytes], size: int) -> float:
    with socket.create_connection(("127.0.0.1", servers.valkey.port)) as connection:
        reader = hiredis.Reader()

        def answers(wanted: int) -> None:
            while wanted:
                reader.feed(connection.recv(65_536))
                while reader.gets() is not False:
                    wanted -= 1

        connection.sendall(
            hiredis.pack_command(cast(Any, (b"AUTH", servers.valkey.password.encode())))
        )
        answers(1)
        begun = time.perf_counter()
        for piece in packed:
            connection.sendall(piece)
            answers(size)
        return len(packed) * size / (time.perf_counter() - begun)


def receiver(report: Report, servers: Servers, count: int) -> None:
    """The whole receiver process, from the socket into Redis, with no writer beside it."""
    folder = servers.new_folder()
    client = servers.client()
    with stage("receiver", folder, redis_url=servers.valkey.url):
        load = Load(folder / "events.sock", "flood", count)
        begun = time.monotonic()
        load.go()
        while sum(client.xlen(stream) for stream in EVENT_STREAMS) < count:
            time.sleep(0.01)
        rate = count / (time.monotonic() - begun)
        load.result()
    report.add(
        PART,
        "receiver (socket → Redis)",
        rate,
        "events/s",
        limit=report.value("XADD (Publisher, atomic batches of 1,000)"),
        limit_is="XADD alone",
    )


async def fill(
    servers: Servers,
    count: int,
    *,
    workers: int = 1000,
    first: int = 1,
    mixed: bool = True,
    each: bool = False,
) -> None:
    """Puts events into the streams, as a receiver does."""
    publisher = Publisher(servers.valkey.url, 30)
    source = datagrams(count, workers=workers, first=first, seed=first, mixed=mixed, each=each)
    name = 0
    while part := list(islice(source, 1000)):
        name += 1
        values: defaultdict[str, list[bytes]] = defaultdict(list)
        for event in map(decode, part):
            values[stream_of(event.event)] += event_values(event)
        await publisher.publish(
            Batch(f"mining:receiver:fill-{first}", str(name), dict(values), len(part))
        )
    await publisher.close()


def copy(report: Report, servers: Servers, count: int) -> None:
    """COPY of ready rows, and the server's own INSERT … SELECT of the same rows."""
    servers.client()
    asyncio.run(fill(servers, count, mixed=False))
    url = servers.database()

    async def go() -> float:
        client = redis_async.Redis.from_url(servers.valkey.url)
        streams = Streams(client)
        connection = await asyncpg.connect(url)
        await prepare(connection)
        entries: list[Entry] = []
        while len(entries) < count:
            entries += await streams.read(10_000, 0)
        await client.aclose()
        rows = [item for item in map(parse, entries) if isinstance(item, Row)]
        records = [
            (
                row.micros, row.data.share_diff, row.data.difficulty, row.seq, 1, 1, 1, True, False,
                row.source, b"1234", b"12345678", bytes.fromhex(row.data.hash), row.data.job_id,
                row.data.ip, None,
            )
            for row in rows
        ]  # fmt: skip
        assert pack_inet(rows[0].data.ip)  # as warm as in the writer
        begun = time.perf_counter()
        for at in range(0, count, 5000):
            await connection.copy_records_to_table(
                "shares", records=records[at : at + 5000], columns=SHARE_COLUMNS
            )
        seconds = time.perf_counter() - begun
        await connection.close()
        return count / seconds

    rate = asyncio.run(go())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create temp table ready as select * from shares")
        connection.execute("truncate shares")
        begun = time.perf_counter()
        connection.execute("insert into shares select * from ready")
        bare = count / (time.perf_counter() - begun)
    servers.client()
    report.add(
        PART,
        "COPY (16 columns, 5,000 rows a transaction)",
        rate,
        "rows/s",
        limit=bare,
        limit_is="the server's INSERT … SELECT of the same rows",
    )


def writer(report: Report, servers: Servers, count: int) -> None:
    """The whole writer process, emptying a full Redis."""
    servers.client()
    asyncio.run(fill(servers, count))
    url = servers.database()
    folder = servers.new_folder()
    begun = time.monotonic()
    with stage("writer", folder, redis_url=servers.valkey.url, database_url=url):
        begun = time.monotonic()
        wait_for_rows(url, count)
        rate = count / (time.monotonic() - begun)
    servers.client()
    report.add(
        PART,
        "writer (Redis → committed rows)",
        rate,
        "events/s",
        limit=report.value("COPY (16 columns, 5,000 rows a transaction)"),
        limit_is="COPY alone",
    )


class StoreCost(msgspec.Struct):
    """What the writer's half costs, in CPU µs an event of this process and a local PostgreSQL.

    Attributes:
        new: while every worker is seen for the first time.
        known: after that.
        memory: MiB that this process grew by meanwhile.
    """

    new: float
    known: float
    memory: float


def store_cost(servers: Servers, url: str, first: int, count: int, workers: int) -> StoreCost:
    """Commits events of so many workers: first a share of each, then ``count`` of any.

    CPU time, because what else the machine does says nothing of the writer.

    Args:
        servers: Redis is emptied.
        url: of the database.
        first: number of the first event; it takes the next ``workers + 2 * count``.
        count: events that are measured.
        workers: that they are of.
    """
    servers.client()
    own, postgres = psutil.Process(), servers.postgres()

    async def go() -> StoreCost:
        connection = await asyncpg.connect(url)
        await prepare(connection)
        client = redis_async.Redis.from_url(servers.valkey.url)
        plain = await fetch_flavour(connection) == "postgresql"
        offsets = Offsets(connection, f"bench-{first}")
        store = Store(connection, offsets, timedelta(days=90), plain=plain)
        streams = Streams(client)
        await offsets.load()

        async def commit(start: int, events: int, *, each: bool = False) -> float:
            seconds = 0.0
            for at in range(0, events, 100_000):  # so much at once has room in Redis
                part = min(100_000, events - at)
                await fill(
                    servers, part, workers=workers, first=start + at, mixed=not each, each=each
                )
                begun = time.process_time() + cpu_seconds(postgres)
                done = 0
                while done < part:
                    entries = await streams.read(5000, 0)
                    await store.commit(entries)
                    done += len(entries)
                seconds += time.process_time() + cpu_seconds(postgres) - begun
                for stream in EVENT_STREAMS:
                    await client.xtrim(stream, maxlen=0)
            return 1e6 * seconds / events

        await commit(first, count)  # what every process takes once
        before = own.memory_info().rss
        new = await commit(first + count, workers, each=True)
        memory = (own.memory_info().rss - before) / 2**20
        known = await commit(first + count + workers, count)
        await client.aclose()
        await connection.close()
        return StoreCost(new, known, memory)

    return asyncio.run(go())
