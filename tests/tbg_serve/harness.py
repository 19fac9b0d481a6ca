"""A pool with a past, and the server that tells of it."""

import asyncio
import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import asyncpg
from starlette.types import ASGIApp, Message, Scope

from tbg.stack.embedded import free_port
from tbg_serve.app import Serving
from tbg_serve.settings import ServeSettings
from tests.processes import LIMIT, PYTHON, Process, running

ALICE = "bc1qalice00000000000000000000000000000000"
BOB = "bc1qbob0000000000000000000000000000000000"
STRANGER = "bc1qstranger000000000000000000000000000000"
BLOCK = "00" * 28 + "cafef00d"
HEIGHT = 900_000
NETWORK = 1.2e14
IP = "203.0.113.77"


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """Asks an application that runs in this process, as a server would."""

    def __init__(self, app: ASGIApp, address: str = "192.0.2.1") -> None:
        self._app = app
        self.address = address

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """One request; underscores in names of headers are dashes."""
        raw, _, query = path.partition("?")
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in names.items()],
            "client": (self.address, 50000),
            "server": ("testserver", 80),
            "state": {},
        }
        status, found = 0, dict[str, str]()
        parts: list[bytes] = []
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found.update(
                    (name.decode().lower(), value.decode()) for name, value in message["headers"]
                )
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return Answer(status, found, b"".join(parts))

    async def json(self, path: str) -> Any:
        """What a path answers, which must be 200 and JSON."""
        answer = await self.get(path)
        assert answer.status == 200, (path, answer.status, answer.text)
        assert answer.headers["content-type"].startswith("application/json")
        return answer.json


@contextlib.asynccontextmanager
async def asked(database_url: str, redis_url: str, **settings: Any) -> AsyncIterator[Client]:
    """The application in this process. It keeps no answer, unless settings say so."""
    chosen = {"serve_cache_seconds": 0, "serve_query_seconds": 60, **settings}
    serving = Serving(ServeSettings.load(database_url=database_url, redis_url=redis_url, **chosen))
    async with serving.running():
        yield Client(serving.app)


@dataclass(frozen=True)
class Server:
    """A running ``tbg serve``."""

    url: str
    process: Process

    def get(self, path: str, **headers: str) -> Answer:
        """One request; underscores in names of headers are dashes."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, headers=names)  # noqa: S310  http
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  http
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, found, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                found = {name.lower(): value for name, value in error.headers.items()}
                return Answer(error.code, found, error.read())


@contextlib.contextmanager
def served(
    database_url: str,
    redis_url: str,
    folder: Path,
    *arguments: str,
    ready: bool = True,
    **settings: str,
) -> Iterator[Server]:
    """``tbg serve`` as a process. It keeps no answer, unless settings say so."""
    port = free_port()
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SERVE_PORT": str(port),
        "SERVE_CACHE_SECONDS": "0",
        "SERVE_QUERY_SECONDS": "60",
        **settings,
    }
    command = [PYTHON, "-m", "tbg.cli", "serve", *arguments]
    path = "/readyz" if ready else "/healthz"
    with running(command, folder / f"serve-{port}.log", environment=environment) as process:
        server = Server(f"http://127.0.0.1:{port}", process)
        deadline = time.monotonic() + LIMIT
        while not _answers(server, path):
            assert process.popen is not None
            assert process.popen.poll() is None, process.output
            assert time.monotonic() < deadline, process.output
            time.sleep(0.1)
        yield server


def _answers(server: Server, path: str) -> bool:
    try:
        return server.get(path).status == 200
    except OSError:
        return False


@dataclass(frozen=True)
class Past:
    """What :func:`past` made.

    Attributes:
        now: about when; every share of the running week is of this moment.
        old: when one share was, in a closed bucket of ten minutes; it may be of the last week.
    """

    now: datetime
    monday: datetime
    old: datetime
    alice: int
    garage: int
    attic: int
    bob: int
    shed: int


async def past(db: asyncpg.Connection) -> Past:
    """Alice with a worker that mines and one that is off, Bob with one, and a block."""
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    alice, bob = await user(db, ALICE, 5e12), await user(db, BOB, 1e9)
    garage = await worker(db, alice, "garage", 1.48e12)
    attic = await worker(db, alice, "attic", 2e9, online=False, agent=None)
    shed = await worker(db, bob, "shed", 1e9, agent="nerdminer")
    made = Past(now, monday, now - timedelta(minutes=35), alice, garage, attic, bob, shed)
    await share(db, alice, garage, now, difficulty=100, achieved=123.45)
    await share(db, alice, garage, now, difficulty=100, achieved=101.5)
    await share(db, alice, garage, now, difficulty=100, valid=False, reason="stale")
    await share(db, bob, shed, made.old, difficulty=60, achieved=61)
    await best(db, alice, garage, 123.45, now, monday)
    await best(db, bob, shed, 99, now, monday)
    await db.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('aa', $1, $2, now())",
        HEIGHT,
        NETWORK,
    )
    await db.execute(
        "insert into blocks (block_height, block_hash, user_id, worker_id, reward_sats, "
        "fees_sats, difficulty, network_difficulty, coinbase_sig, status, confirmations, found_at) "
        "values ($1, $2, $3, $4, 312750000, 250000, 2e14, $5, '/TheBitcoinGame/', 'accepted', 7, $6)",
        HEIGHT,
        BLOCK,
        alice,
        garage,
        NETWORK,
        now - timedelta(hours=2),
    )
    return made


async def user(db: asyncpg.Connection, address: str, rate: float = 0.0) -> int:
    """A user whose engine reported a hash rate just now."""
    number: int = await db.fetchval(
        "insert into users (btc_address, created_at, last_seen, hashrate_1m, hashrate_5m, "
        "hashrate_1h, hashrate_24h) values ($1, '2026-01-02T03:04:05Z', now(), $2, $2, $2, $2) "
        "returning id",
        address,
        rate,
    )
    return number


async def worker(
    db: asyncpg.Connection,
    owner: int,
    name: str,
    rate: float = 0.0,
    *,
    online: bool = True,
    agent: str | None = "bitaxe/2.9",
) -> int:
    """A worker of a user."""
    number: int = await db.fetchval(
        "insert into workers (user_id, worker_name, first_seen, last_share, current_diff, "
        "hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h, is_online, user_agent) "
        "values ($1, $2, '2026-01-02T03:04:05Z', now(), 512, $3, $3, $3, $3, $4, $5) returning id",
        owner,
        name,
        rate,
        online,
        agent,
    )
    return number


async def share(
    db: asyncpg.Connection,
    owner: int,
    number: int,
    at: datetime,
    *,
    difficulty: float = 512.0,
    achieved: float = 600.0,
    valid: bool = True,
    reason: str | None = None,
) -> None:
    """A share, with the address of its miner."""
    if await db.fetchval("select to_regproc('ensure_partitions') is not null"):
        await db.execute("select ensure_partitions($1, $1)", at.date())
    await db.execute(
        "insert into shares (time, user_id, worker_id, difficulty, share_diff, is_valid, "
        "reject_reason, ip_address) values ($1, $2, $3, $4, $5, $6, $7, $8)",
        at,
        owner,
        number,
        difficulty,
        achieved,
        valid,
        reason,
        IP,
    )


async def best(
    db: asyncpg.Connection, owner: int, number: int, difficulty: float, at: datetime, week: datetime
) -> None:
    """A user's best of a week."""
    await db.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time, "
        "best_worker_id, best_share_hash, total_shares, total_work) "
        "values ($1, $2, $3, $4, $5, $6, null, null)",
        owner,
        week.date(),
        difficulty,
        at,
        number,
        bytes(28) + int(difficulty).to_bytes(4, "big"),
    )
