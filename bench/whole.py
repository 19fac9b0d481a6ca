"""The whole way, from a sender's socket to the committed row."""

import contextlib
import statistics
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self, cast

import psycopg

from bench.alone import store_cost
from bench.figures import Report
from bench.load import Load
from bench.stack import Meter, Servers, Stage, in_namespace, runs, stage, wait_for_rows
from tbg_core.names import stream_of

SHARES: Final = stream_of("share_submitted")
MIB: Final = 2**20
QUEUE_LENGTHS: Final = (10, 512, 4096)


@contextlib.contextmanager
def daemon(servers: Servers, url: str, folder: Path, **settings: Any) -> Iterator[list[Stage]]:
    """Both stages; ``settings`` are theirs."""
    settings = {"redis_url": servers.valkey.url, **settings}
    with (
        stage("receiver", folder, **settings) as receiver,
        stage("writer", folder, database_url=url, **settings) as writer,
    ):
        yield [receiver, writer]


def end_to_end(report: Report, servers: Servers, count: int) -> None:
    """As fast as the socket takes them, until all are committed; and what it costs."""
    servers.client()
    url = servers.database()
    folder = servers.new_folder()
    with daemon(servers, url, folder) as stages:
        load = Load(folder / "events.sock", "flood", count)
        meter = Meter(servers, stages)
        begun = time.monotonic()
        load.go()
        wait_for_rows(url, count)
        seconds = time.monotonic() - begun
        prove_numbers(url, count)
        cost = meter.seconds()
        load.result()
        memory = {made.name: made.process.memory_info().rss / MIB for made in stages}
    stages_alone = [
        report.value("receiver (socket → Redis)"),
        report.value("writer (Redis → committed rows)"),
    ]
    slowest = min((value for value in stages_alone if value is not None), default=None)
    report.add(
        "end to end",
        "socket → committed row",
        count / seconds,
        "events/s",
        limit=slowest,
        limit_is="the slowest stage alone",
        goal="≥ 40,000, ≥ 80 %",
    )
    for name, spent in cost.items():
        report.add("CPU, flooded", name, 1e6 * spent / count, "s per million events")
    for name, used in memory.items():
        report.add("memory, flooded", name, used, "MiB", goal="< 150")


def prove_numbers(url: str, count: int) -> None:
    """Counts the rows themselves: every number sent is there, once."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select sum(emitted), sum(stored), sum(doubled) from audit_numbers()"
        ).fetchone()
    if found != (count, count, 0):
        raise RuntimeError(f"{count} sent; emitted, stored and stored twice: {found}")


def paced(report: Report, servers: Servers, rate: int, seconds: int) -> None:
    """Latencies and CPU at an even pace."""
    client = servers.client()
    url = servers.database()
    folder = servers.new_folder()
    count = rate * seconds
    looking = contextlib.nullcontext() if keeps_commit_times(url) else Commits(url)
    with daemon(servers, url, folder, stream_keep=count + 100_000) as stages, looking as commits:
        load = Load(folder / "events.sock", "paced", count, rate)
        meter = Meter(servers, stages)
        load.go()
        result = load.result()
        wait_for_rows(url, int(result["sent"]))
        cost = meter.seconds()
        memory = {made.name: made.process.memory_info().rss / MIB for made in stages}
    part = f"{rate:,}/s paced"
    # An entry's id is the millisecond in which Redis took it, rounded down: half a
    # millisecond is added.
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(SHARES))
    to_redis = [
        int(entry_id.partition(b"-")[0]) + 0.5 - int(fields[b"timestamp"]) / 1000
        for entry_id, fields in entries
    ]
    _latency(report, part, "to Redis", to_redis, "p99 < 8 ms" if rate == 10_000 else "")
    if commits is None:
        to_row, how = to_commits(url), ""
    else:
        to_row = commits.latencies(entries)
        how = f", by {commits.looks:,} looks at the offset"
    _latency(report, part, "to the committed row", to_row, "p99 < 1,000 ms", how)
    both = cost["receiver"] + cost["writer"]
    report.add(
        part,
        "CPU of receiver and writer together",
        both / result["seconds"],
        "cores",
        goal="< 0.4" if rate == 10_000 else "",
        note=", ".join(f"{name} {spent / result['seconds']:.2f}" for name, spent in cost.items()),
    )
    for name, used in memory.items():
        report.add(part, f"memory of the {name}", used, "MiB", goal="< 150")


def keeps_commit_times(url: str) -> bool:
    """Whether the server knows when each row was committed."""
    with psycopg.connect(url) as connection:
        return connection.execute("show track_commit_timestamp").fetchone() == ("on",)


def to_commits(url: str) -> list[float]:
    """Milliseconds from each share's time to its commit."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select extract(epoch from pg_xact_commit_timestamp(xmin) - time) * 1000 from shares"
        )
        return [float(row[0]) for row in rows]


class Commits:
    """Looks again and again at how far the shares are committed, for servers that keep no times.

    The offset commits with the rows. A latency is too long by the pause between two looks.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: list[tuple[tuple[int, int], float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            ends = False
            while not ends:
                ends = self._stopped.wait(0.002)  # and once more, for the last of them
                row = connection.execute(
                    "select last_id from stream_offsets where stream = %s", [SHARES]
                ).fetchone()
                self.looks += 1
                if row and (not self._seen or _place(row[0]) > self._seen[-1][0]):
                    self._seen.append((_place(row[0]), time.time()))

    def latencies(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> list[float]:
        """Milliseconds from each share's time to the first look that found it committed."""
        places = [place for place, _ in self._seen]
        return [
            1000 * self._seen[bisect_left(places, _place(entry_id.decode()))][1]
            - int(fields[b"timestamp"]) / 1000
            for entry_id, fields in entries
        ]


def _place(entry_id: str) -> tuple[int, int]:
    moment, _, number = entry_id.partition("-")
    return int(moment), int(number)


def _latency(
    report: Report, part: str, what: str, found: list[float], goal: str, how: str = ""
) -> None:
    cuts = statistics.quantiles(found, n=100)
    report.add(
        part,
        f"share latency {what}, p99",
        cuts[98],
        "ms",
        goal=goal,
        note=f"median {cuts[49]:.3g}, longest {max(found):.3g}{how}",
    )


def queue_lengths(report: Report, servers: Servers, seconds: int, largest: int) -> None:
    """Losses of a sender that never waits, by the kernel's queue of the socket."""
    namespace = in_namespace()
    if namespace is None:
        report.left_out.append(
            "queue lengths: the kernel's limit can be set only as root, or where users may "
            "make namespaces"
        )
        return
    for length in QUEUE_LENGTHS:
        _queue_length(report, servers, seconds, largest, length, namespace, "")
    # Who may not raise the limit may let the receiver wake up before anything else.
    realtime = [*namespace, "chrt", "--fifo", "1"]
    if not runs(realtime):
        report.left_out.append("a receiver at real-time priority: this user may not start one")
        return
    length = QUEUE_LENGTHS[0]
    _queue_length(report, servers, seconds, 0, length, realtime, ", receiver under chrt --fifo 1")


def _queue_length(
    report: Report,
    servers: Servers,
    seconds: int,
    largest: int,
    length: int,
    words: list[str],
    how: str,
) -> None:
    servers.client()
    url = servers.database()
    folder = servers.new_folder()
    # A network namespace of its own has its own limit; Redis is reached by socket.
    with (
        stage(
            "receiver",
            folder,
            words=words,
            redis_url=servers.redis_socket_url,
            queue_length=length,
        ) as receiver,
        stage("writer", folder, redis_url=servers.valkey.url, database_url=url),
    ):
        if f"max_dgram_qlen={length}" not in receiver.running.output:
            report.left_out.append(f"queue length {length}: it could not be set")
            return
        load = Load(folder / "events.sock", "paced", 10_000 * seconds, 10_000, punctual=True)
        load.go()
        result = load.result()
        report.add(
            "never-waiting sender",
            f"10,000/s for {seconds} s, queue length {length}{how}: lost",
            100 * result["refused"] / (10_000 * seconds),
            "%",
            goal="< 0.1 %" if length == QUEUE_LENGTHS[0] else "0",
            note=f"{result['refused']:,.0f} events; the sender woke late and sent up to "
            f"{result['longest_catch_up']:.0f} at once",
        )
        if length != 512 and largest:
            load = Load(folder / "events.sock", "bursts", largest)
            load.go()
            report.add(
                "never-waiting sender",
                f"largest burst without a loss, queue length {length}",
                load.result()["largest"],
                "events",
                note=f"tried up to {largest:,}",
            )


def three_engines(report: Report, servers: Servers, count: int) -> None:
    """A receiver for each of three engines, one Redis, one writer."""
    servers.client()
    url = servers.database()
    folders = [servers.new_folder() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(stage("receiver", folder, redis_url=servers.valkey.url))
        stack.enter_context(
            stage("writer", folders[0], redis_url=servers.valkey.url, database_url=url)
        )
        loads = [
            Load(folder / "events.sock", "flood", count // 3, instance=f"engine-{number}/1")
            for number, folder in enumerate(folders)
        ]
        begun = time.monotonic()
        for load in loads:
            load.go()
        wait_for_rows(url, count // 3 * 3)
        rate = count // 3 * 3 / (time.monotonic() - begun)
        for load in loads:
            load.result()
    with psycopg.connect(url) as connection:
        lost = connection.execute(
            "select coalesce(sum(missing), 0) + 0.0 from ledger_hours"
        ).fetchone()
    assert lost is not None
    report.add(
        "end to end",
        "three engines, three receivers, one writer",
        rate,
        "events/s",
        limit=report.value("socket → committed row"),
        limit_is="one engine",
        note=f"{lost[0]:.0f} events missing in the ledger",
    )


def scale(report: Report, servers: Servers, count: int, workers: list[int]) -> None:
    """The writer's cost of an event, by number of workers."""
    first = 1
    basis = None
    for many in workers:
        cost = store_cost(servers, servers.database(), first, count, many)
        first += many + 2 * count
        basis = basis or cost.known
        report.add(
            "cost with scale", f"{many:,} workers", cost.known, "CPU µs/event", limit=basis,
            limit_is=f"with {workers[0]:,} workers", goal="≤ 1.5 times",
            note=f"{cost.known / basis:.2f} times; while they were new {cost.new:.0f}",
        )  # fmt: skip
        report.add(
            "cost with scale", f"memory of {many:,} known workers", cost.memory, "MiB",
            goal="< 150 with the rest of the writer",
        )  # fmt: skip
