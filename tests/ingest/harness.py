"""What the daemon's tests share: real stages as processes, and events to send."""

import contextlib
import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, cast

import asyncpg
import redis.asyncio as redis_async

from ingest.writer.leaderboard import Leaderboard
from ingest.writer.offsets import Offsets
from ingest.writer.resume import resume
from ingest.writer.store import Store
from ingest.writer.streams import Streams
from ingest.writer.trimming import Trimming
from tbg.stack.embedded import free_port
from tbg_core.flavour import fetch_flavour
from tests.clock import moment
from tests.processes import PYTHON, Process

GOLDEN = Path(__file__).parent.parent / "events"
READY = {"receiver": "listening", "writer": "committing"}
OWN = "own"  # as a metrics port: a free one, which Stage.port then names
_TRIES = 5  # to find a port that nobody takes before the stage does


def golden(event: str, /, **changes: Any) -> dict[str, Any]:
    """The golden datagram of an event, now, without instance and seq.

    Changes go to the envelope where it has the field, otherwise to data.
    """
    value: dict[str, Any] = json.loads((GOLDEN / f"{event}.json").read_bytes())
    value["timestamp"] = moment()
    del value["instance"], value["seq"]
    for name, new in changes.items():
        if name in ("event", "timestamp", "source", "instance", "seq"):
            value[name] = new
        else:
            value["data"][name] = new
    return value


def packed(event: str, /, **changes: Any) -> bytes:
    """:func:`golden` as a datagram."""
    return json.dumps(golden(event, **changes)).encode()


async def entries(client: redis_async.Redis, stream: str) -> list[dict[bytes, bytes]]:
    """The fields of every entry of a stream."""
    return [fields for _, fields in cast(Any, await client.xrange(stream))]


class Sender:
    """A client of the event socket that waits for room."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(60)
        self._socket.connect(str(path))

    def send(self, datagram: bytes) -> None:
        """Sends one datagram."""
        self._socket.send(datagram)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


@dataclass
class Parts:
    """A writer's parts, without the writer."""

    offsets: Offsets
    store: Store
    streams: Streams
    trimming: Trimming


async def parts_of(
    connection: asyncpg.Connection, client: redis_async.Redis, consumer: str
) -> Parts:
    """Parts that go on from what is committed; they keep nothing for other readers."""
    offsets = Offsets(connection, consumer)
    plain = await fetch_flavour(connection) == "postgresql"
    store = Store(connection, offsets, timedelta(days=90), plain=plain)
    await store.open()
    await Leaderboard(client, timedelta(days=28)).reconcile(connection, store.bests)
    streams = Streams(client)
    streams.seek(await resume(offsets, streams))
    return Parts(offsets, store, streams, Trimming(client, 0))


@contextlib.contextmanager
def sending(path: Path) -> Iterator[Sender]:
    """A sender, closed at the end."""
    sender = Sender(path)
    try:
        yield sender
    finally:
        sender.close()


class Stage:
    """One stage of the daemon as a process.

    Args:
        ready: what its log says when it is started; another text for one that will not
            be ready.
    """

    def __init__(
        self,
        name: str,
        environment: dict[str, str],
        log: Path,
        *,
        ready: str = "",
    ) -> None:
        self.name = name
        self.environment = environment
        self.log = log
        self.port = 0
        self._variable = f"{name.upper()}_METRICS_PORT"
        self._own_port = environment.get(self._variable) == OWN
        self._ready = ready or READY[name]
        self.process = Process([PYTHON, "-m", "ingest", name], log, environment)

    async def start(self) -> Self:
        """Starts it, perhaps again; it is ready when its log says so."""
        for _ in range(_TRIES):
            if self._own_port:
                self.port = free_port()
                self.process.environment[self._variable] = str(self.port)
            self.process.start()
            await self.process.saying(self._ready)
            # A stage goes on without its port; the test asks there.
            taken = "address already in use" in self.process.output.lower()
            if not (self._own_port and taken):
                return self
            self.process.kill()
        raise AssertionError("no port is free")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send(number)

    async def kill(self) -> None:
        """Ends the process as kill -9 does."""
        self.process.kill()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send(signal.SIGTERM)
        return await self.process.ended()

    def get(self, path: str) -> tuple[int, str]:
        """Asks its port: status and text."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a counter over its labels."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name
        )


def stage_environment(
    folder: Path, redis_url: str, database_url: str = "", **settings: str
) -> dict[str, str]:
    """Settings of stages whose files are in a folder."""
    return {
        "SOCKET_PATH": str(folder / "events.sock"),
        "SPOOL_DIR": str(folder / "spool"),
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "RECEIVER_METRICS_PORT": "0",
        "WRITER_METRICS_PORT": "0",
        "FLUSH_SECONDS": "0.1",
        **settings,
    }


@contextlib.asynccontextmanager
async def stage(
    name: str,
    folder: Path,
    redis_url: str,
    database_url: str = "",
    *,
    ready: str = "",
    **settings: str,
) -> AsyncIterator[Stage]:
    """A started stage that is killed at the end if it still runs."""
    environment = stage_environment(folder, redis_url, database_url, **settings)
    made = Stage(name, environment, folder / f"{name}.log", ready=ready)
    try:
        yield await made.start()
    finally:
        await made.kill()
