"""Backlogs of ordinary mixed events: everything is stored, and nothing is a duplicate."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults.conftest import Tell
from tests.faults.stack import running


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["writer", "database"])
async def test_a_backlog_of_the_ordinary_mixture_is_stored_to_the_last_event(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    fault_seed: str,
    backlog_events: int,
    tell: Tell,
    how: str,
) -> None:
    draw = random.Random(f"{fault_seed}:backlog:{how}")
    async with running(tmp_path, valkey_server, postgres_server) as stack:
        engines = [
            stack.engine(f"backlog-{number}", f"{fault_seed}:{number}", 0, resends=number > 0)
            for number in range(2)
        ]
        if how == "writer":
            await stack.writer.kill()
        else:
            stack.database.refusing = True
            stack.database.cut()
        for engine in engines:
            engine.start()
        while sum(engine.sent for engine in engines) < backlog_events:  # noqa: ASYNC110  threads count
            await asyncio.sleep(0.05)
        for engine in engines:
            await asyncio.to_thread(engine.stop)
        if how == "writer":
            await stack.writer.start()
        else:
            stack.database.refusing = False
        # The writer is behind for a while: crashes in the middle change nothing.
        for _ in range(3):
            await asyncio.sleep(draw.uniform(0.2, 2.0))
            await stack.writer.kill()
            await stack.writer.start()
        for engine in engines:
            await stack.drained(engine)
            sums = await stack.account(engine)
            tell(f"backlog, {how} away", sums, 0.0)
            assert sums.missing == 0, sums
            # The receiver never died, so nothing was sent again but what the engine resent.
            assert sums.duplicates == engine.resent, sums
