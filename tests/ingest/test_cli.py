"""``python -m ingest``: both stages under one process."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from tests.ingest.harness import packed, sending

Eventually = Callable[..., Awaitable[Any]]


async def started(folder: Path, redis_url: str, database_url: str) -> asyncio.subprocess.Process:
    environment = {
        "SOCKET_PATH": str(folder / "events.sock"),
        "SPOOL_DIR": str(folder / "spool"),
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "RECEIVER_METRICS_PORT": "0",
        "WRITER_METRICS_PORT": "0",
    }
    with (folder / "log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest", env={**os.environ, **environment}, stderr=log
        )


async def test_sigterm_commits_what_was_received_and_exits_0_within_10_seconds(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    daemon = await started(tmp_path, redis_url, database_url)
    await eventually((tmp_path / "events.sock").exists)
    with sending(tmp_path / "events.sock") as sender:
        for seq in range(1, 1001):
            sender.send(packed("share_submitted", instance="e/1", seq=seq))
    before = time.monotonic()
    daemon.terminate()
    assert await asyncio.wait_for(daemon.wait(), 20) == 0, (tmp_path / "log").read_text()
    assert time.monotonic() - before < 10
    assert await db.fetchval("select count(*) from shares") == 1000


async def test_when_a_stage_dies_the_other_is_stopped_and_the_exit_code_tells(
    tmp_path: Path, redis_url: str, database_url: str, eventually: Eventually
) -> None:
    daemon = await started(tmp_path, redis_url, database_url)
    await eventually((tmp_path / "events.sock").exists)
    stages = psutil.Process(daemon.pid).children()
    assert len(stages) == 2
    next(stage for stage in stages if stage.cmdline()[-1] == "writer").kill()
    assert await asyncio.wait_for(daemon.wait(), 20) != 0
    assert not any(stage.is_running() for stage in stages)
    assert "a stage ended by itself" in (tmp_path / "log").read_text()


async def test_wrong_settings_end_it_with_every_name(tmp_path: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        env={"PATH": os.environ["PATH"], "REDIS_URL": "nonsense"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, message = await daemon.communicate()
    assert daemon.returncode == 1
    assert b"REDIS_URL: must start with redis://" in message
