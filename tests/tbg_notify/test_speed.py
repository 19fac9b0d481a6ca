"""From a block's commit to its channel, with the real notifier process.

The figures are for docs/alerts.md (``pytest -s``): how long it takes says how busy the
machine is. What is asserted is that the commit alone brings the message.
"""

import asyncio
import random
import statistics
import time
from pathlib import Path

from tests.processes import PYTHON, running, until
from tests.tbg_dagster.conftest import Connection, History
from tests.tbg_notify.channels import Web

BLOCKS = 20


async def test_a_block_reaches_its_channel_by_its_commit_alone(
    connection: Connection, history: History, database_url: str, tmp_path: Path, ntfy: Web
) -> None:
    path = tmp_path / "alerts.yml"
    path.write_text(f"routes: {{phone: {{to: 'ntfy://127.0.0.1:{ntfy.port}/mine'}}}}")
    environment = {
        "DATABASE_URL": database_url, "ALERTS_FILE": str(path), "NOTIFIER_METRICS_PORT": "0",
    }  # fmt: skip
    pauses = random.Random(15)
    history.worker("bc1quser.rig")
    with running([PYTHON, "-m", "tbg.cli", "notify"], tmp_path / "log", environment) as notifier:
        await notifier.saying("ready")
        committed = []
        for number in range(BLOCKS):
            await asyncio.sleep(pauses.uniform(0, 2))  # at any moment between two looks
            history.block("bc1quser.rig", 1000 + number, f"{number:064x}")
            committed.append(time.monotonic())
        await until(lambda: len(ntfy.taken) >= BLOCKS, "every block arrives")
    titles = [one["title"] for one in ntfy.taken]
    assert titles == [f"Block {1000 + number:,} found" for number in range(BLOCKS)]
    took = [there - then for then, there in zip(committed, ntfy.times, strict=True)]
    print(f"\n{BLOCKS} blocks: median {statistics.median(took):.1f} s, worst {max(took):.1f} s")
