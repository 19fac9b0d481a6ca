"""What the daemon's tests share: real stages as processes, and events to send."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import redis.asyncio as redis_async

GOLDEN = Path(__file__).parent.parent / "events"
ROOT = Path(__file__).parent.parent.parent


def golden(event: str, /, **changes: Any) -> dict[str, Any]:
    """The golden datagram of an event, now, without instance and seq.

    Changes go to the envelope where it has the field, otherwise to data.
    """
    value: dict[str, Any] = json.loads((GOLDEN / f"{event}.json").read_bytes())
    value["timestamp"] = time.time_ns() // 1000
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
        self._socket.settimeout(10)
        self._socket.connect(str(path))

    def send(self, datagram: bytes) -> None:
        """Sends one datagram."""
        self._socket.send(datagram)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


@contextlib.contextmanager
def sending(path: Path) -> Iterator[Sender]:
    """A sender, closed at the end."""
    sender = Sender(path)
    try:
        yield sender
    finally:
        sender.close()


class Stage:
    """One stage of the daemon as a process."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.environment = environment
        self.log = log
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> "Stage":
        """Starts the process; it is ready when its log says so."""
        before = self.log.read_text().count(READY[self.name]) if self.log.exists() else 0
        with self.log.open("a") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ingest",
                self.name,
                env={**os.environ, **self.environment, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 60
        while self.log.read_text().count(READY[self.name]) == before:
            if self.process.returncode is not None:
                raise AssertionError(f"{self.name} ended:\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} is not ready:\n{self.log.read_text()}")
            await asyncio.sleep(0.02)
        return self

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        """Ends the process as kill -9 does."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 30)


READY = {"receiver": "listening", "writer": "committing"}


@contextlib.asynccontextmanager
async def stage(
    name: str, folder: Path, redis_url: str, database_url: str = "", **settings: str
) -> AsyncIterator[Stage]:
    """A started stage that is killed at the end if it still runs."""
    environment = {
        "SOCKET_PATH": str(folder / "events.sock"),
        "SPOOL_DIR": str(folder / "spool"),
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "RECEIVER_METRICS_PORT": "0",
        "WRITER_METRICS_PORT": "0",
        "FLUSH_SECONDS": "0.1",
        **settings,
    }
    made = Stage(name, environment, folder / f"{name}.log")
    await made.start()
    try:
        yield made
    finally:
        await made.kill()
