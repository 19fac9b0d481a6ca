"""From the C module through the real daemon to the database."""

import contextlib
import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from tbg_core.names import stream_of
from tests.ingest.harness import Stage, stage
from tests.processes import Process, running

SHARES = 200_000

Eventually = Callable[..., Awaitable[Any]]
Program = Callable[[str], Path]


@contextlib.contextmanager
def flood(program: Program, folder: Path, shares: int, per_second: int) -> Iterator[Process]:
    environment = {
        "TBG_EVENTS_SOCKET": str(folder / "events.sock"),
        "TBG_EVENTS_STATE": "",
        "TBG_EVENTS_INSTANCE": "flood",
    }
    words = [str(program("flood")), str(shares), str(per_second)]
    with running(words, folder / "flood.log", environment) as process:
        yield process


async def told(process: Process) -> dict[str, Any]:
    assert await process.ended(240) == 0, process.output
    counts: dict[str, Any] = json.loads(process.output.splitlines()[-1])
    return counts


async def all_there_once(db: asyncpg.Connection, shares: int, eventually: Eventually) -> None:
    async def committed() -> bool:
        return bool(await db.fetchval("select count(*) >= $1 from shares", shares))

    await eventually(committed, 240)
    row = await db.fetchrow(
        "select count(*) as rows, count(distinct (instance_id, seq)) as sequence,"
        " count(distinct job_id) as jobs, min(seq) as first, max(seq) as last,"
        " count(*) filter (where is_valid) as valid from shares"
    )
    assert row is not None
    assert dict(row) == {
        "rows": shares,
        "sequence": shares,
        "jobs": shares,
        "first": 1,
        "last": shares,
        "valid": shares * 9 // 10,
    }
    assert await db.fetchval("select seq_missing::text from engine_instances") == "{}"


@pytest.mark.timeout(600)
async def test_200_000_shares_are_in_the_database_once_each(
    tmp_path: Path,
    program: Program,
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with flood(program, tmp_path, SHARES, 100_000) as process:
            counts = await told(process)
        assert counts["emitted"] == counts["sent"] == SHARES
        await all_there_once(db, SHARES, eventually)


@pytest.mark.timeout(600)
async def test_nothing_is_lost_or_doubled_when_the_receiver_restarts(
    tmp_path: Path,
    program: Program,
    redis_url: str,
    redis: redis_async.Redis,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    shares = 50_000
    async with (
        stage("receiver", tmp_path, redis_url) as receiver,
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with flood(program, tmp_path, shares, 8_000) as process:
            await eventually(lambda: redis.exists(stream_of("share_submitted")))
            # However slow we are, the flood has more to send.
            process.freeze()
            await restart(receiver)
            process.send(signal.SIGCONT)
            counts = await told(process)
        assert counts["emitted"] == counts["sent"] == shares
        assert counts["resent"] > 0
        await all_there_once(db, shares, eventually)


async def restart(stage: Stage) -> None:
    """Ends the stage as a deployment does, and starts it again."""
    assert await stage.stop() == 0
    await stage.start()
