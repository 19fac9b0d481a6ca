"""A running pool on a real node, its events, and a Stratum client that tests speak through."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from devnet.bitcoin.difficulty import target_from_difficulty
from devnet.miner.job import Job
from devnet.miner.search import search
from devnet.pool.config import PoolConfig
from devnet.pool.hashrate import WINDOWS
from devnet.pool.pool import Clock, Pool, wall_clock
from devnet.pool.service import serve
from tbg_core.decode import Decoded, decode
from tbg_core.events import STATUS
from tests.devnet.node.conftest import PASSWORD, USER

ALICE = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
EASY = 1e-6
"""About 4,300 hashes per share: a few milliseconds of real proof of work."""
PATIENCE = 120.0
"""Seconds; only spent if a test fails."""


class Events:
    """The receiver of a test: decodes whatever the pool emits, and keeps it."""

    def __init__(self, path: Path) -> None:
        self.all: list[Decoded] = []
        self.statuses: list[Decoded] = []  # what vouches for the pool, and is no event
        self._news = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                event = decode(self._socket.recv(65_536))
                kept = self.statuses if event.event == STATUS else self.all
                kept.append(event)
                self._news.set()

    def of(self, event: str) -> list[Any]:
        """The data of all events of one kind so far."""
        return [item.data for item in self.all if item.event == event]

    async def until(self, true: Callable[[], object]) -> None:
        """Waits for events until ``true()`` holds."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def wait(self, event: str, number: int = 1) -> list[Any]:
        """The data of the events of one kind, once there are ``number`` of them."""
        await self.until(lambda: len(self.of(event)) >= number)
        return self.of(event)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@dataclass
class Running:
    """A pool that listens, and what it emits."""

    pool: Pool
    port: int
    events: Events
    stop: Callable[[], None]
    secure_port: int = 0  # for TLS

    async def settled(self) -> None:
        """Returns once all that the pool has emitted so far is in ``events``."""
        marker = f"marker {len(self.events.all)}"
        self.pool.events.hashrate(ALICE, marker, dict.fromkeys(WINDOWS, 0.0))
        await self.events.until(
            lambda: marker in [item.worker for item in self.events.of("hashrate_update")]
        )


@asynccontextmanager
async def running_pool(
    folder: Path, node_url: str, *, clock: Clock = wall_clock, **config: Any
) -> AsyncIterator[Running]:
    """A pool on the node at ``node_url`` until the block ends, with easy shares by default."""
    values = {
        "btcd": [{"url": node_url, "auth": USER, "pass": PASSWORD}],
        "serverurl": "127.0.0.1:0",
        "mindiff": 1e-9,
        "startdiff": EASY,
        "block_difficulty": 1e6,
        "update_interval": 600,  # else a busy machine gets a new job when a test expects none
    }
    checked, _ = PoolConfig.read(None, values | config)
    path = folder / "events.sock"
    path.unlink(missing_ok=True)
    events = Events(path)
    stop = asyncio.Event()
    started: list[Running] = []
    ready = asyncio.Event()

    def note(pool: Pool, bound: list[tuple[str, int]]) -> None:
        started.append(Running(pool, bound[0][1], events, stop.set, bound[-1][1]))
        ready.set()

    task = asyncio.create_task(
        serve(
            checked,
            stop,
            socket_path=path,
            state_path=folder / "bests.json",
            name="test-pool",
            clock=clock,
            ready=note,
        )
    )
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, timeout=PATIENCE, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if task.done():
            await task
        yield started[0]
    finally:
        stop.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await task
        finally:
            events.close()


@dataclass
class Client:
    """A miner's end of a connection, one line at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    notifications: list[dict[str, Any]] = field(default_factory=list)
    nonce1: bytes = b""
    user: str = f"{ALICE}.rig"
    difficulty: float = 0.0
    job: Job | None = None
    _ids: Any = field(default_factory=count)

    async def line(self) -> dict[str, Any]:
        """The next line; EOFError at the end."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readline()
        if not raw:
            raise EOFError
        message = json.loads(raw)
        assert isinstance(message, dict)
        if message.get("method") == "mining.set_difficulty":
            self.difficulty = message["params"][0]
        if message.get("method") == "mining.notify":
            self.job = Job.parse(message["params"])
        return message

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def ask(self, method: str, *params: Any) -> dict[str, Any]:
        """The whole answer; notifications that came before it are kept."""
        number = next(self._ids)
        request = {"id": number, "method": method, "params": params}
        await self.send(json.dumps(request).encode() + b"\n")
        while True:
            message = await self.line()
            if "method" not in message:
                assert message["id"] == number
                return message
            self.notifications.append(message)

    async def heard(self, method: str) -> list[Any]:
        """The params of the next notification of one kind."""
        while True:
            for position, message in enumerate(self.notifications):
                if message["method"] == method:
                    return list(self.notifications.pop(position)["params"])
            self.notifications.append(await self.line())

    async def clean_job(self) -> Job:
        """The next job that makes those before it stale."""
        while not (job := Job.parse(await self.heard("mining.notify"))).clean:
            pass
        return job

    async def start(self, user: str | None = None, password: str = "") -> Job:
        """Handshake until the first job."""
        self.user = user or self.user
        answer = await self.ask("mining.subscribe", "test/1.0")
        self.nonce1 = bytes.fromhex(answer["result"][1])
        answer = await self.ask("mining.authorize", self.user, password)
        assert answer["result"] is True, answer
        await self.heard("mining.set_difficulty")
        return Job.parse(await self.heard("mining.notify"))

    def solve(
        self,
        job: Job,
        difficulty: float,
        *,
        below: float | None = None,
        nonce2: int = 0,
        ntime: int | None = None,
        version_bits: int | None = None,
        mask: int = 0,
    ) -> list[str]:
        """The params of a share that achieves ``difficulty`` by real work, but not ``below``.

        Without ``below`` it is less than ten times the difficulty: no test depends on luck.
        """
        extra = nonce2.to_bytes(8, "big")
        version = job.version if version_bits is None else job.version & ~mask | version_bits
        header = bytearray(job.header(self.nonce1 + extra, version))
        header[68:72] = (job.ntime if ntime is None else ntime).to_bytes(4, "little")
        target = target_from_difficulty(difficulty)
        too_good = target_from_difficulty(below or 10 * difficulty)
        nonce = next(
            nonce
            for nonce, digest in search(bytes(header), 0, 1 << 32, target)
            if int.from_bytes(digest, "little") > too_good
        )
        params = [
            self.user,
            job.job_id,
            extra.hex(),
            f"{job.ntime if ntime is None else ntime:08x}",
            f"{nonce:08x}",
        ]
        return params if version_bits is None else [*params, f"{version_bits:08x}"]


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    """A connection to the pool on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
