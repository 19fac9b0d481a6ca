"""An import sees how far the writer is behind, and waits for it."""

import time

import asyncpg
import click
import pytest
import redis.asyncio as redis_async

from tbg.servers import Urls
from tbg.sharelog.backlog import LIMIT, Backlog
from tbg_core.names import stream_of

STREAM = stream_of("share_submitted")


async def test_the_oldest_uncommitted_share_tells_how_far_the_writer_is(
    database_url: str, redis_url: str, db: asyncpg.Connection, redis: redis_async.Redis
) -> None:
    asked: list[str] = []

    def stopped() -> bool:
        asked.append("")
        return len(asked) > 3

    backlog = Backlog(Urls(database_url, redis_url), stopped, print)
    assert backlog.age() == 0
    assert backlog.wait() < LIMIT
    assert len(asked) == 1  # nothing waits: it did not, either

    old = int((time.time() - 3600) * 1000)
    await redis.xadd(STREAM, {"event": "x"}, id=f"{old}-0")
    await redis.xadd(STREAM, {"event": "x"})
    assert 3500 < backlog.age() < 3700
    backlog._next = 0.0
    backlog.wait()
    assert len(asked) == 4  # it looked until the end was asked for

    # Of several writers the slowest counts.
    await db.executemany(
        "insert into stream_offsets (consumer, stream, last_id) values ($1, $2, $3)",
        [("a", STREAM, f"{old}-0"), ("b", STREAM, f"{old - 1}-7")],
    )
    assert backlog.age() > 3500
    await db.execute("update stream_offsets set last_id = $1", f"{old}-0")
    assert backlog.age() < 3500
    backlog.close()


def test_a_stack_that_does_not_answer_is_named_without_its_password(redis_url: str) -> None:
    away = "postgresql://tbg:secret@127.0.0.1:1/tbg"
    with pytest.raises(click.ClickException, match=r"127\.0\.0\.1:1/tbg") as caught:
        Backlog(Urls(away, redis_url), lambda: False, print)
    assert "secret" not in caught.value.message
